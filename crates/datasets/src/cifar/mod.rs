//! CIFAR-10 in its official layouts: six batches of 10,000 images, checked byte by byte for size and label and as a whole by
//! SHA-256.
mod batch;
mod pickle;
mod source;

use batch::{IMAGE, RECORDS};
pub use source::FILES;
use source::Source;

use crate::dataset::stratified_mask;
use crate::manifest::Manifest;
use crate::stream::Purpose;
use crate::{DataError, DataSearch, Dataset, InputGrid, Origin, Split, Task};

/// Class names by label, from the official `batches.meta.txt`.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Images held back from training for validation: 500 of each class.
pub const VALIDATION_PER_CLASS: usize = 500;

/// Loads CIFAR-10: the binary version (`cifar-10-batches-bin`) or the Python version (`cifar-10-batches-py`, read without
/// Python and without running what is in it), as folders of DIR, as DIR itself, or straight from `cifar-10-binary.tar.gz`
/// or `cifar-10-python.tar.gz`. All of them give the same dataset.
///
/// The validation split is fixed: of each class, the 500 training images that come first in a permutation keyed by
/// (0, validation, class). Training and validation images keep the official order; ids are positions in the official
/// training set, test ids follow from 50,000.
pub(crate) fn load(search: &DataSearch) -> Result<Dataset, DataError> {
    load_source(&search.find(&Task::Cifar10, source::find)?)
}

/// Where the files are.
pub(crate) fn located(search: &DataSearch) -> Result<std::path::PathBuf, DataError> {
    search.find(&Task::Cifar10, source::find).map(Source::into_path)
}

/// Labels in a batch of the Python version of any size; for fuzzing.
pub(crate) fn parse_pickle(path: &std::path::Path, bytes: &[u8]) -> Result<usize, DataError> {
    pickle::read_batch(path, bytes).map(|batch| batch.labels.len())
}

/// Labels in a batch of the binary version; for fuzzing.
pub(crate) fn parse_records(path: &std::path::Path, bytes: &[u8]) -> Result<usize, DataError> {
    batch::from_records(path, bytes).map(|batch| batch.labels.len())
}

fn load_source(source: &Source) -> Result<Dataset, DataError> {
    let batches = source.batches()?;
    let manifest = Manifest::named("cifar10")?;
    let mut warnings = Vec::new();
    for (name, batch) in FILES.iter().zip(&batches) {
        let path = format!("cifar-10-batches-bin/{name}");
        let expected =
            manifest.files.iter().find(|file| file.path == path).and_then(|file| file.sha256.as_deref());
        if expected != Some(batch.sha256.as_str()) {
            warnings.push(format!(
                "{name} is not the official file (SHA-256 {}, official {}): perhaps a re-encoded (JPEG) copy, which can \
                 cost 12 points of accuracy",
                batch.sha256,
                expected.unwrap_or("unknown")
            ));
        }
    }

    let labels: Vec<u8> = batches[..5].iter().flat_map(|batch| &batch.labels).copied().collect();
    let held_back = stratified_mask(&labels, CLASSES.len(), VALIDATION_PER_CLASS, Purpose::ValidationSplit);
    let mut train = Split::default();
    let mut validation = Split::default();
    train.codes.reserve_exact(labels.len() * IMAGE);
    for (id, (&label, &held)) in labels.iter().zip(&held_back).enumerate() {
        let image = &batches[id / RECORDS].codes[id % RECORDS * IMAGE..][..IMAGE];
        let split = if held { &mut validation } else { &mut train };
        split.codes.extend_from_slice(image);
        split.labels.push(label);
        split.ids.push(id as u32);
    }
    let test = batches.into_iter().next_back().map_or_else(Split::default, |batch| Split {
        ids: (0..batch.labels.len() as u32).map(|i| (5 * RECORDS) as u32 + i).collect(),
        codes: batch.codes,
        labels: batch.labels,
    });

    let mut dataset = Dataset {
        name: Task::Cifar10.to_string(),
        shape: [32, 32, 3],
        grid: InputGrid::PIXELS,
        classes: CLASSES.map(str::to_owned).to_vec(),
        train,
        validation,
        test,
        checksum: String::new(),
        origin: Origin::Official,
        note: format!(
            "CIFAR-10 ({}), official training and test sets; {VALIDATION_PER_CLASS} training images of each class \
             (fixed keyed choice) are held back for validation.",
            source.describe()
        ),
        warnings,
        speech: None,
    };
    dataset.checksum = dataset.content_checksum();
    Ok(dataset)
}

#[cfg(test)]
mod tests;
