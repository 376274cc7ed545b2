//! One suite over the disks, and what only the memory and faulty ones do.

use super::*;

fn slices<'a>(parts: &'a [&'a [u8]]) -> Vec<IoSlice<'a>> {
    parts.iter().map(|part| IoSlice::new(part)).collect()
}

fn behaves_like_a_disk(disk: &dyn Disk) {
    disk.create_directory("a/b").unwrap();
    assert!(!disk.exists("a/b/one").unwrap());
    let file = disk.open("a/b/one").unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(3, &slices(&[b"abc", b"", b"defg"])).unwrap();
    assert_eq!(file.len().unwrap(), 10);
    let mut read = [9; 10];
    file.read_at(0, &mut read).unwrap();
    assert_eq!(&read, b"\0\0\0abcdefg");
    assert_eq!(file.read_at(1, &mut read).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.zero(4, 200_000).unwrap();
    assert_eq!(file.len().unwrap(), 200_004);
    file.read_at(0, &mut read).unwrap();
    assert_eq!(&read, b"\0\0\0a\0\0\0\0\0\0");
    file.set_len(4).unwrap();
    file.sync_data().unwrap();
    disk.rename("a/b/one", "a/b/two").unwrap();
    disk.sync_directory("a/b").unwrap();
    assert_eq!(disk.list("a/b").unwrap(), ["two"]);
    assert_eq!(disk.list("").unwrap(), [""; 0]);
    assert_eq!(read_whole(disk, "a/b/two").unwrap(), b"\0\0\0a");
    write_whole(disk, "a/b/two", b"new").unwrap();
    assert_eq!(read_whole(disk, "a/b/two").unwrap(), b"new");
    disk.remove("a/b/two").unwrap();
    assert_eq!(disk.remove("a/b/two").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(file.len().unwrap(), 4, "an open handle outlives its name");
    let many: Vec<[u8; 2]> = (0..3000u16).map(u16::to_le_bytes).collect();
    let parts: Vec<IoSlice<'_>> = many.iter().map(|part| IoSlice::new(part)).collect();
    let file = disk.open("many").unwrap();
    file.write_at(1, &parts).unwrap();
    assert_eq!(read_whole(disk, "many").unwrap()[1..], many.concat());
}

#[test]
fn memory_behaves_like_a_disk() {
    behaves_like_a_disk(&MemoryDisk::new());
}

#[test]
fn faulty_without_faults_behaves_like_a_disk() {
    behaves_like_a_disk(&FaultyDisk::default());
}

#[test]
fn real_behaves_like_a_disk_and_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    behaves_like_a_disk(&disk);
    let file = disk.open("held").unwrap();
    assert_eq!(RealDisk::open(directory.path()).err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(disk);
    assert_eq!(RealDisk::open(directory.path()).err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(file);
    RealDisk::open(directory.path()).unwrap();
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_part_of_the_rest() {
    let disk = MemoryDisk::new();
    let file = disk.open("f").unwrap();
    file.write_at(0, &slices(&[&[1; 2048]])).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory("").unwrap();
    file.write_at(512, &slices(&[&[2; 1024]])).unwrap();
    disk.rename("f", "g").unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let after = disk.crash(seed);
        let names = after.list("").unwrap();
        assert_eq!(names.len(), 1, "a rename is atomic");
        let bytes = read_whole(&after, &names[0]).unwrap();
        assert!(bytes[..512].iter().chain(&bytes[1536..]).all(|byte| *byte == 1));
        seen.insert((names[0].clone(), bytes[512], bytes[1024]));
        assert!(bytes[512..1024].iter().all(|byte| *byte == bytes[512]), "a sector is atomic");
    }
    assert_eq!(seen.len(), 8, "every outcome occurs: {seen:?}");
}

#[test]
fn faults_come_where_they_are_asked_for() {
    let disk = FaultyDisk::default();
    let file = disk.open("f").unwrap();
    disk.sync_directory("").unwrap();
    file.write_at(0, &slices(&[b"kept"])).unwrap();
    file.sync_data().unwrap();
    disk.fail(Operation::Write, 2, ErrorKind::StorageFull);
    file.write_at(4, &slices(&[b"lost"])).unwrap();
    assert!(is_full(&file.write_at(8, &slices(&[b"none"])).unwrap_err()));
    disk.fail(Operation::Sync, 1, ErrorKind::Other);
    assert!(file.sync_data().is_err());
    assert_eq!(read_whole(&disk, "f").unwrap(), b"kept", "a failed sync loses what was not synced");
    disk.flip_read(1, 9);
    assert_eq!(read_whole(&disk, "f").unwrap(), b"kgpt");
    disk.disk.set_capacity(Some(6));
    assert!(is_full(&file.write_at(4, &slices(&[b"abc"])).unwrap_err()));
    file.write_at(4, &slices(&[b"ab"])).unwrap();
    disk.crash_in(1);
    assert!(file.sync_data().is_err());
    assert!(disk.crashed() && file.write_at(0, &slices(&[b"x"])).is_err());
}
