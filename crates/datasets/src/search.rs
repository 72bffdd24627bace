//! Where data may lie: the one place that knows the order `--data`, `$TERNION_DATA`, user cache.
use std::path::{Path, PathBuf};

use crate::{DataError, Task};

/// Where to look for data: the directory the user named, then `$TERNION_DATA`, then `ternion` in the user's cache
/// directory (`$XDG_CACHE_HOME` or `~/.cache`). The first directory holding the task's files is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSearch {
    /// Directory named on the command line (`--data`), if any. It must exist: a typing error must not quietly select
    /// other data.
    pub explicit: Option<PathBuf>,
}

impl DataSearch {
    /// Directories to look in, in order; only the explicit one needs to exist.
    ///
    /// # Errors
    /// [`DataError::Io`] when the explicit directory does not exist.
    pub fn dirs(&self) -> Result<Vec<PathBuf>, DataError> {
        self.dirs_with(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn dirs_with(&self, var: impl Fn(&str) -> Option<PathBuf>) -> Result<Vec<PathBuf>, DataError> {
        let mut dirs = Vec::new();
        if let Some(dir) = &self.explicit {
            std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))?;
            dirs.push(dir.clone());
        }
        dirs.extend(var("TERNION_DATA"));
        dirs.extend(cache_dir(var));
        Ok(dirs)
    }

    /// First value `find` gives for a searched directory.
    pub(crate) fn find<T>(&self, task: &Task, find: impl Fn(&Path) -> Option<T>) -> Result<T, DataError> {
        let looked_in = self.dirs()?;
        match looked_in.iter().find_map(|dir| find(dir)) {
            Some(found) => Ok(found),
            None => Err(DataError::NotFound { task: task.to_string(), looked_in }),
        }
    }
}

/// Where features are kept between runs: `ternion/features` in the user's cache directory.
pub(crate) fn feature_cache() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(cache_dir(var)?.join("features"))
}

fn cache_dir(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))?;
    Some(cache.join("ternion"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_explicit_environment_cache() {
        let dir = tempfile::tempdir().unwrap();
        let search = DataSearch { explicit: Some(dir.path().to_owned()) };
        let dirs = search.dirs_with(|name| Some(PathBuf::from(format!("/{name}")))).unwrap();
        let expected = [dir.path().to_owned(), "/TERNION_DATA".into(), "/XDG_CACHE_HOME/ternion".into()];
        assert_eq!(dirs, expected);
        let home = DataSearch::default().dirs_with(|name| (name == "HOME").then(|| "/h".into())).unwrap();
        assert_eq!(home, [PathBuf::from("/h/.cache/ternion")]);
        assert!(DataSearch::default().dirs_with(|_| None).unwrap().is_empty());
    }

    #[test]
    fn missing_explicit_directory_is_an_error() {
        let search = DataSearch { explicit: Some("/nonexistent/data".into()) };
        assert!(matches!(search.dirs(), Err(DataError::Io { .. })));
    }
}
