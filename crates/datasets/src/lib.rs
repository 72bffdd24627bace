//! Verified bytes to arrays: CIFAR-10, Speech Commands and its MFCC front end, the embedded sets.
#![forbid(unsafe_code)]
