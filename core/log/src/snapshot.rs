//! A shard's state at one place of its journal: recovery reads the newest, and the journal from there.
//!
//! ```text
//!  0        4        8        12
//!  ├ magic (8) ──────┼ crc ───┼ postcard of Snapshot …   crc: CRC-32C of what follows
//! ```
//! The file's name holds the place, `snapshot-<pack>-<position>`, so that names sort like places.

use std::io::{self, ErrorKind};

use core_rpc::{AbortedTransaction, GroupName, PartitionId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::cursors::{Kept, Pending};
use crate::disk::{Disk, read_whole, write_whole};
use crate::leases::record::{LeaseImage, LeaseSnapshot};
use crate::producers::ProducerEntry;
use crate::transactions::{Fence, Open};

const MAGIC: &[u8; 8] = b"SNAPSHT5";

/// What snapshots were before, and how many lists [`Snapshot`] has gained since at its end.
const OLDER: [(&[u8; 8], usize); 4] = [(b"SNAPSHT1", 8), (b"SNAPSHT2", 3), (b"SNAPSHT3", 2), (b"SNAPSHT4", 1)];

const HEAD_BYTES: usize = 12;

/// Snapshots kept beside the newest, should that one be damaged.
const OLDER_KEPT: usize = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub place: Place,
    /// The run that wrote it.
    pub run: u32,
    pub partitions: Vec<PartitionSnapshot>,
    pub cursors: Vec<(GroupName, PartitionId, Kept)>,
    pub pending: Vec<(GroupName, PartitionId, Pending)>,
    /// By producer.
    pub fences: Vec<(i64, Fence)>,
    pub open: Vec<(i64, PartitionId, Open)>,
    pub aborted: Vec<(PartitionId, Vec<AbortedTransaction>)>,
    /// Only in snapshots of before there were delays.
    pub leases: Vec<(GroupName, PartitionId, LeaseSnapshot)>,
    pub maps: Vec<(GroupName, PartitionId, LeaseImage)>,
    /// By producer: the last decision that was carried out.
    pub decisions: Vec<(i64, u64)>,
    /// Only in the last one of a run that was ended in order: of each map, before where messages may have been handed out that are
    /// not counted so. It holds as long as nothing stands behind the snapshot.
    pub handed_out: Vec<(GroupName, PartitionId, u64)>,
}

/// Where in the journal: all before it is in the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub pack: u32,
    pub position: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSnapshot {
    pub id: PartitionId,
    pub start: u64,
    pub end: u64,
    pub producers: Vec<(i64, ProducerEntry)>,
}

/// Writes a snapshot durably and removes those that are no longer needed. Returns the place of the oldest that is kept:
/// the journal is needed from there.
pub fn write(disk: &dyn Disk, directory: &str, snapshot: &Snapshot) -> io::Result<Place> {
    write_checked(disk, &format!("{directory}/{}", name(snapshot.place)), MAGIC, snapshot)?;
    let mut places = places(disk, directory)?;
    places.retain(|place| *place < snapshot.place);
    for place in places.iter().rev().skip(OLDER_KEPT) {
        disk.remove(&format!("{directory}/{}", name(*place)))?;
    }
    Ok(places.iter().rev().take(OLDER_KEPT).next_back().copied().unwrap_or(snapshot.place))
}

/// The newest snapshot that is whole. None if there is none at all; an error if there are only damaged ones.
pub fn read_newest(disk: &dyn Disk, directory: &str) -> io::Result<Option<Snapshot>> {
    let mut damaged = None;
    for place in places(disk, directory)?.into_iter().rev() {
        match read(disk, &format!("{directory}/{}", name(place))) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                tracing::warn!(directory, pack = place.pack, "a snapshot is damaged: using an older one");
                damaged = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    damaged.map_or(Ok(None), Err)
}

fn read(disk: &dyn Disk, name: &str) -> io::Result<Snapshot> {
    let mut bytes = read_whole(disk, name)?;
    for (magic, lists_added) in OLDER {
        if bytes.starts_with(magic) {
            checked_body(&bytes, name, magic)?;
            // A zero is an empty list.
            bytes.resize(bytes.len() + lists_added, 0);
            return postcard::from_bytes(&bytes[HEAD_BYTES..]).map_err(|_| damaged(name));
        }
    }
    postcard::from_bytes(checked_body(&bytes, name, MAGIC)?).map_err(|_| damaged(name))
}

/// Places of the snapshots that are there, oldest first.
pub fn places(disk: &dyn Disk, directory: &str) -> io::Result<Vec<Place>> {
    let mut places: Vec<Place> = disk.list(directory)?.iter().filter_map(|name| place_in(name)).collect();
    places.sort_unstable();
    Ok(places)
}

fn name(place: Place) -> String {
    format!("snapshot-{:08x}-{:08x}", place.pack, place.position)
}

fn place_in(name: &str) -> Option<Place> {
    let (pack, position) = name.strip_prefix("snapshot-")?.split_once('-')?;
    Some(Place { pack: u32::from_str_radix(pack, 16).ok()?, position: u32::from_str_radix(position, 16).ok()? })
}

/// Writes a value with a magic word and a CRC in front, so that a crash leaves the old file or the new one.
pub fn write_checked<T: Serialize>(disk: &dyn Disk, name: &str, magic: &[u8; 8], value: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(value).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    write_whole(disk, name, &bytes)
}

/// Reads what [`write_checked`] wrote. `InvalidData` if it is damaged.
pub fn read_checked<T: DeserializeOwned>(disk: &dyn Disk, name: &str, magic: &[u8; 8]) -> io::Result<T> {
    let bytes = read_whole(disk, name)?;
    postcard::from_bytes(checked_body(&bytes, name, magic)?).map_err(|_| damaged(name))
}

/// What is behind the magic word and the CRC.
fn checked_body<'a>(bytes: &'a [u8], name: &str, magic: &[u8; 8]) -> io::Result<&'a [u8]> {
    let body = bytes.get(HEAD_BYTES..).ok_or_else(|| damaged(name))?;
    if &bytes[..8] != magic || bytes[8..HEAD_BYTES] != crc32c::crc32c(body).to_le_bytes() {
        return Err(damaged(name));
    }
    Ok(body)
}

fn damaged(name: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{name} is damaged"))
}

#[cfg(test)]
mod tests {
    use core_rpc::TopicId;

    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn older_snapshots_are_read() {
        for (magic, lists_added) in OLDER {
            let disk = MemoryDisk::new();
            disk.create_directory("s").unwrap();
            let id = PartitionId { topic: TopicId(1), index: 2 };
            let partitions = vec![PartitionSnapshot { id, start: 3, end: 4, producers: Vec::new() }];
            let snapshot =
                Snapshot { place: Place { pack: 5, position: 6 }, run: 7, partitions, ..Snapshot::default() };
            let mut body = postcard::to_stdvec(&snapshot).unwrap();
            body.truncate(body.len() - lists_added);
            let crc = crc32c::crc32c(&body).to_le_bytes();
            let bytes = [&magic[..], &crc[..], &body[..]].concat();
            write_whole(&disk, &format!("s/{}", name(snapshot.place)), &bytes).unwrap();
            assert_eq!(read_newest(&disk, "s").unwrap(), Some(snapshot.clone()));
            write(&disk, "s", &snapshot).unwrap();
            assert_eq!(read_newest(&disk, "s").unwrap(), Some(snapshot));
        }
    }
}
