//! The fuzz targets' bodies over random and mutated inputs, so that every build runs them; and what sound seeds give.
use datasets::fuzzing::{TARGETS, Target, seeds};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sound input for each target, and how much is in it.
fn seeds_of(name: &str) -> Vec<(Vec<u8>, usize)> {
    let bytes = |n: usize| -> Vec<u8> { (0..n).map(|i| (i * 131 % 251) as u8).collect() };
    let samples: Vec<i16> = (0..600).map(|i| (i * 97 % 2000 - 1000) as i16).collect();
    let digits = |n: u32, compressed| {
        let labels: Vec<u8> = (0..n).map(|i| (i % 10 + 1) as u8).collect();
        let images = bytes(3072 * n as usize);
        seeds::mat_file(&[("X", &[32, 32, 3, n], &images), ("y", &[n, 1], &labels)], compressed)
    };
    match name {
        "pickle" => vec![
            (seeds::pickled_batch(&[3, 1, 4], 12, &bytes(36)), 3),
            (seeds::pickled_batch(&[5; 300], 2, &bytes(600)), 300),
        ],
        "records" => vec![(
            bytes(30_730_000).chunks_exact(3073).flat_map(|r| [&[7], &r[1..]].concat()).collect(),
            10_000,
        )],
        "mat" => vec![(digits(2, false), 2), (digits(3, true), 3)],
        "tar_gz" => {
            vec![(seeds::tar_gz(&[("a/b.wav", &bytes(5_000)), ("c", b"")]), 5_000), (seeds::tar_gz(&[]), 0)]
        }
        "wav" => vec![(seeds::wav(&samples), 600)],
        "flac" => {
            vec![(seeds::flac(16_000, 1, 600, &samples), 600), (seeds::flac(16_000, 1, 0, &samples), 600)]
        }
        "clip_list" => vec![(b"yes/a_nohash_0.wav\nno/b_nohash_1.wav\n".to_vec(), 2)],
        "fold_list" => vec![(
            b"file,label12,label,fold5,duplicate_of\ngo/a.wav,1,go,2,\ngo/b.wav,1,go,2,go/a.wav\n".to_vec(),
            2,
        )],
        "stimuli" => {
            vec![(b"index,name,label12,gsc_file\n0,a,7,stop/a.flac\n1,b,11,_unknown_/b.flac\n".to_vec(), 2)]
        }
        "manifest" => vec![(include_bytes!("../../../datasets/cifar10.toml").to_vec(), 6)],
        other => panic!("no seed for {other}"),
    }
}

/// One to eight small damages: bits, bytes, cuts, repetitions, and numbers that parsers fear.
fn mutate(rng: &mut ChaCha8Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.random_range(1..=8) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + rng.random_range(1..64)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + rng.random_range(1..64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                let number =
                    [u32::MAX, i32::MAX as u32, 1 << 31, 0, 1 << 24][rng.random_range(0..5)].to_le_bytes();
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            _ => bytes.insert(at, rng.random()),
        }
    }
    bytes
}

fn run(name: &str, target: Target, rng: &mut ChaCha8Rng) {
    let seeds = seeds_of(name);
    for (seed, found) in &seeds {
        assert_eq!(target(seed).unwrap_or_else(|error| panic!("{name}: {error}")), *found, "{name}");
    }
    let large = seeds[0].0.len() > 1 << 20;
    let mut refused = 0;
    let rounds = if large { 20 } else { 400 };
    for round in 0..rounds {
        let input = if round % 4 == 0 {
            (0..rng.random_range(0..2_000)).map(|_| rng.random()).collect()
        } else {
            mutate(rng, seeds[round % seeds.len()].0.clone())
        };
        // The target itself asserts what must hold of an error.
        refused += usize::from(target(&input).is_err());
    }
    assert!(refused > 0, "{name}: damage must be seen");
}

#[test]
fn no_parser_panics_and_every_error_is_located() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (name, target) in TARGETS {
        run(name, target, &mut rng);
    }
}

#[test]
fn every_prefix_of_a_small_file_is_refused_or_read() {
    for (name, target) in TARGETS {
        for (seed, _) in seeds_of(name) {
            let step = (seed.len() / 1_000).max(1);
            for cut in (0..seed.len()).step_by(step) {
                let result = target(&seed[..cut]);
                // Lists and archives of nothing are sound; a binary file cut short never is.
                if matches!(name, "pickle" | "records" | "wav" | "tar_gz") {
                    assert!(result.is_err(), "{name} cut at {cut} of {}", seed.len());
                }
                if name == "records" && cut > 40 * step {
                    break;
                }
            }
        }
    }
}

#[test]
fn fuzz_targets_are_those_of_the_crate() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no fuzz target");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
