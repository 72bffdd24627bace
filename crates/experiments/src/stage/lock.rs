//! One process per result: advisory file locks that the system releases when their holder dies.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(250);

/// An exclusive lock, held until dropped.
///
/// The lock is the system's (`flock` or its like), so one left by a process that was killed is free at once and
/// nobody has to guess whether a process number is still alive. The file itself stays; it holds the number of
/// its last holder, for messages.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, waiting for another holder; `on_wait` is told once whom it waits for.
    pub(crate) fn acquire(path: &Path, on_wait: &dyn Fn(&str)) -> std::io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        let mut holder = String::new();
                        file.rewind()?;
                        // Naming the holder is a courtesy: whatever is there will do.
                        let _ = file.read_to_string(&mut holder);
                        on_wait(holder.trim());
                        told = true;
                    }
                    std::thread::sleep(POLL);
                }
                Err(TryLockError::Error(e)) => return Err(e),
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/a.lock");
        let first = Lock::acquire(&path, &|_| panic!("nobody to wait for")).unwrap();
        let (waited, released) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let told = |holder: &str| {
                    assert_eq!(holder, format!("process {}", std::process::id()));
                    waited.store(true, Ordering::SeqCst);
                };
                Lock::acquire(&path, &told).unwrap();
                assert!(released.load(Ordering::SeqCst));
            });
            while !waited.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            released.store(true, Ordering::SeqCst);
            drop(first);
        });
    }

    #[test]
    fn a_lock_file_left_behind_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        std::fs::write(&path, "process 999999999\n").unwrap();
        Lock::acquire(&path, &|_| panic!("the holder is dead")).unwrap();
    }
}
