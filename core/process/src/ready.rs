//! The ready file: JSON that says where a process listens, written once everything does.
//!
//! `{"core":"127.0.0.1:7401"}`. Whoever started the process waits for the file instead of polling ports.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Says on the standard output where the process listens, a line `name address` each, and writes the file, if one is wished. The
/// error names the file.
pub fn announce(addresses: &BTreeMap<String, String>, path: Option<&Path>) -> io::Result<()> {
    for (name, address) in addresses {
        println!("{name} {address}");
    }
    let Some(path) = path else { return Ok(()) };
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    write(path, addresses).map_err(named)
}

/// Writes the file under another name first and renames it, so that it is never seen half written.
pub fn write(path: &Path, addresses: &BTreeMap<String, String>) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(addresses)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Removes the file of an earlier process, which would mislead.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        write(&path, &BTreeMap::from([("core".to_string(), "127.0.0.1:9".to_string())])).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"core":"127.0.0.1:9"}"#);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
