//! CIFAR-10's four layouts give one dataset, and every damage to any of them is located.
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::batch::{PLANE, RECORD};
use super::*;
use crate::fuzzing::seeds::pickled_batch;

/// Content of batch `batch` in the binary version: labels in turn, and three planes that tell batch, image and place apart.
fn records(batch: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; RECORD * RECORDS];
    for (i, record) in bytes.chunks_exact_mut(RECORD).enumerate() {
        record[0] = (i % 10) as u8;
        record[1..=PLANE].fill(10 + batch as u8);
        record[1 + PLANE..=2 * PLANE].fill(100);
        record[1 + 2 * PLANE..].fill((i % 200) as u8);
        record[1] = 77;
    }
    bytes
}

fn pickled(records: &[u8]) -> Vec<u8> {
    let labels: Vec<u8> = records.chunks_exact(RECORD).map(|record| record[0]).collect();
    let data: Vec<u8> = records.chunks_exact(RECORD).flat_map(|record| &record[1..]).copied().collect();
    pickled_batch(&labels, IMAGE, &data)
}

fn archive(path: &Path, folder: &str, files: &[(String, Vec<u8>)]) {
    let gzip = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{folder}/{name}"), &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

fn search(root: &Path) -> DataSearch {
    DataSearch { explicit: Some(root.to_owned()) }
}

#[test]
fn altered_copies_load_with_warnings_and_corruption_is_located() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("cifar-10-batches-bin");
    std::fs::create_dir_all(&dir).unwrap();
    for (batch, name) in FILES.iter().enumerate() {
        std::fs::write(dir.join(name), records(batch)).unwrap();
    }
    let search = search(root.path());
    let data = load(&search).unwrap();
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [45_000, 5_000, 10_000]);
    assert_eq!(data.validation.class_counts(10), vec![500; 10]);
    assert_eq!(data.warnings.len(), 6);
    assert_eq!(data.test.codes[..6], [77, 100, 0, 15, 100, 0]);
    let mut ids: Vec<u32> =
        [&data.train, &data.validation, &data.test].into_iter().flat_map(|s| s.ids.clone()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..60_000));

    // The directory itself is accepted too.
    assert_eq!(source::find(&dir).map(Source::into_path), Some(dir.clone()));

    let path = dir.join("data_batch_2.bin");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[7 * RECORD] = 10;
    std::fs::write(&path, &bad).unwrap();
    match load(&search).unwrap_err() {
        DataError::Corrupt { path: at, offset, .. } => {
            assert_eq!((at, offset), (path.clone(), 7 * RECORD as u64))
        }
        other => panic!("{other}"),
    }
    std::fs::write(&path, &good[..1000]).unwrap();
    assert!(matches!(load(&search), Err(DataError::Corrupt { offset: 1000, .. })));
    let longer = [good.as_slice(), &[0]].concat();
    std::fs::write(&path, longer).unwrap();
    assert!(matches!(load(&search), Err(DataError::Corrupt { .. })));
    std::fs::write(&path, []).unwrap();
    assert!(matches!(load(&search), Err(DataError::Corrupt { offset: 0, .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(load(&search), Err(DataError::Io { .. })));
}

#[test]
fn archives_and_pickles_give_the_same_data_and_are_checked_alike() {
    let binary: Vec<(String, Vec<u8>)> =
        FILES.iter().enumerate().map(|(i, name)| ((*name).to_owned(), records(i))).collect();
    let python: Vec<(String, Vec<u8>)> = binary
        .iter()
        .map(|(name, bytes)| (name.trim_end_matches(".bin").to_owned(), pickled(bytes)))
        .collect();
    let mut checksums = Vec::new();
    let mut warnings = Vec::new();
    for (files, folder, tar) in [
        (&binary, "cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
        (&python, "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(tar);
        archive(&path, folder, files);
        let data = load(&search(root.path())).unwrap();
        assert_eq!(located(&search(root.path())).unwrap(), path);
        checksums.push(data.checksum);
        warnings.push(data.warnings);

        // One file missing; one cut short within the archive.
        archive(&path, folder, &files[..5]);
        let error = load(&search(root.path())).unwrap_err();
        assert!(error.to_string().contains("no entry `test_batch"), "{error}");
        archive(&path, folder, &[(files[0].0.clone(), files[0].1[..20_000].to_vec())]);
        match load(&search(root.path())).unwrap_err() {
            DataError::Corrupt { path: at, .. } => assert_eq!(at, path.join(folder).join(&files[0].0)),
            other => panic!("{other}"),
        }
        std::fs::write(&path, b"<html>sorry</html>").unwrap();
        assert!(matches!(load(&search(root.path())), Err(DataError::Corrupt { .. })));

        if folder.ends_with("py") {
            let dir = root.path().join(folder);
            std::fs::create_dir_all(&dir).unwrap();
            for (name, bytes) in files {
                std::fs::write(dir.join(name), bytes).unwrap();
            }
            checksums.push(load(&search(root.path())).unwrap().checksum);
        }
    }
    assert!(checksums.iter().all(|checksum| *checksum == checksums[0]), "{checksums:?}");
    // The sums of the binary files prove the Python version too, so both name the same differences.
    assert_eq!(warnings[0], warnings[1]);
}
