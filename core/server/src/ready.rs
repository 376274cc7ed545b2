//! The ready file: JSON that says where the core listens. Whoever started the process waits for it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use core_rpc::Address;

/// Writes `{"core":"ADDRESS"}` under another name first and renames it, so that it is never seen half written.
pub fn write(path: &Path, address: &Address) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&BTreeMap::from([("core", address.to_string())]))?)?;
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
