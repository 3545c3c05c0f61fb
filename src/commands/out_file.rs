//! A file that is written at the end of something long: that it can be written is known before, and what was there stays until then.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where something will be written.
#[derive(Debug)]
pub(crate) struct OutFile {
    path: PathBuf,
    /// Beside it, and renamed to it when it is whole. None where there is something that is no file: a device or a pipe.
    part: Option<(PathBuf, File)>,
}

impl OutFile {
    /// # Errors
    /// If nothing can be written there.
    pub(crate) fn prepare(path: &Path) -> anyhow::Result<OutFile> {
        let cannot = || format!("{} cannot be written", path.display());
        let is_other = fs::metadata(path).is_ok_and(|there| !there.is_file());
        if is_other {
            anyhow::ensure!(!path.is_dir(), "{} cannot be written: it is a folder", path.display());
            return Ok(OutFile { path: path.to_owned(), part: None });
        }
        let mut name = path.file_name().with_context(cannot)?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let file = File::create_new(&part).with_context(cannot)?;
        Ok(OutFile { path: path.to_owned(), part: Some((part, file)) })
    }

    /// # Errors
    /// If it cannot be written after all.
    pub(crate) fn write(mut self, text: &str) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be written", self.path.display());
        let Some((part, file)) = &mut self.part else { return fs::write(&self.path, text).with_context(cannot) };
        file.write_all(text.as_bytes()).with_context(cannot)?;
        fs::rename(part, &self.path).with_context(cannot)
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        if let Some((part, _)) = &self.part {
            let _ = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_there_is_something_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "yesterday's").unwrap();
        drop(OutFile::prepare(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "yesterday's");
        OutFile::prepare(&path).unwrap().write("today's").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "today's");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something is left behind");
    }

    #[test]
    fn where_nothing_can_be_written_is_said_before() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("no/such/folder"), PathBuf::from("/")] {
            let error = OutFile::prepare(&path).unwrap_err().to_string();
            assert!(error.contains("cannot be written"), "{error}");
        }
        OutFile::prepare(Path::new("/dev/null")).unwrap().write("away").unwrap();
    }
}
