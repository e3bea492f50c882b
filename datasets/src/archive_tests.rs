//! Archives that try to abuse their reader: each is refused for its own cause, and the error names the entry.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use rand_chacha::rand_core::Rng;

use crate::archive::{clean_name, untar_gz};
use crate::random::stream;
use crate::{ArchiveError, DataError};

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One entry of a tar archive, with a header that no sane program would write if `name` or `kind` asks for it.
pub(crate) fn entry(name: &str, kind: tar::EntryType, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    let mut entry = header.as_bytes().to_vec();
    entry.extend_from_slice(bytes);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

pub(crate) fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
    entry(name, tar::EntryType::Regular, bytes)
}

/// The entries as a gzipped archive with its two empty blocks at the end.
pub(crate) fn tar_gz(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entries.concat();
    tar.resize(tar.len() + 1024, 0);
    gzip(&tar)
}

const WANTED: [(&str, u64); 2] = [("a.bin", 10), ("b.bin", 10)];

fn error(bytes: &[u8]) -> ArchiveError {
    match untar_gz("x.tar.gz", bytes, &WANTED).unwrap_err() {
        DataError::Archive(error) => {
            assert!(error.to_string().contains("x.tar.gz"), "{error}");
            error
        }
        other => panic!("{other}"),
    }
}

fn good() -> Vec<Vec<u8>> {
    vec![
        entry("d/", tar::EntryType::Directory, b""),
        file("d/readme.html", b"hello"),
        file("d/b.bin", b"BB"),
        file("./d/a.bin", b"AAA"),
    ]
}

#[test]
fn wanted_files_come_in_the_order_they_were_asked_for() {
    assert_eq!(untar_gz("x", &tar_gz(&good()), &WANTED).unwrap(), [b"AAA".to_vec(), b"BB".to_vec()]);
    // Two gzip members are one stream.
    let tar = good().concat();
    let (first, second) = tar.split_at(700);
    let members = [gzip(first), gzip(second)].concat();
    assert_eq!(untar_gz("x", &members, &WANTED).unwrap()[1], b"BB");
}

#[test]
fn a_missing_file_is_named() {
    let archive = tar_gz(&good()[..3]);
    assert!(matches!(error(&archive), ArchiveError::Missing { entry, .. } if entry == "a.bin"));
    assert!(matches!(error(&tar_gz(&[])), ArchiveError::Missing { .. }));
    // A folder of that name is no file.
    let folder = [entry("a.bin", tar::EntryType::Directory, b""), file("b.bin", b"B")];
    assert!(matches!(error(&tar_gz(&folder)), ArchiveError::Missing { .. }));
}

#[test]
fn names_that_leave_the_folder_are_refused_on_every_system() {
    for name in ["/a.bin", "../a.bin", "d/../../a.bin", "d/..", "..", "C:/a.bin", "c:a.bin", "d\\..\\a.bin", "\\a.bin"]
    {
        let mut entries = good();
        entries.insert(1, file(name, b"!"));
        let found = error(&tar_gz(&entries));
        assert!(matches!(&found, ArchiveError::Leaves { entry, .. } if entry == name), "{name}: {found}");
    }
    // A dot more or less is a name like any other.
    assert_eq!(clean_name("x", b"./d//...a/.b/").unwrap(), "d/...a/.b");
}

#[test]
fn names_that_are_no_names_are_refused() {
    for name in [&b""[..], b"a\0b", b"a\nb", b"\xff\xfe", b"\x1b[31mred", &[b'x'; 1025]] {
        let found = clean_name("x", name).unwrap_err();
        assert!(matches!(found, ArchiveError::BadName { .. }), "{found}");
        assert!(found.to_string().len() < 600);
    }
}

#[test]
fn links_and_devices_are_refused_wherever_they_are() {
    use tar::EntryType;
    let kinds = [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Block, "device"),
        (EntryType::Fifo, "device"),
        (EntryType::Continuous, "special entry"),
        (EntryType::new(b'Z'), "special entry"),
    ];
    for (kind, expected) in kinds {
        let mut entries = good();
        entries.push(entry("d/odd", kind, b""));
        let found = error(&tar_gz(&entries));
        assert!(
            matches!(&found, ArchiveError::NotAFile { entry, found, .. } if entry == "d/odd" && *found == expected),
            "{kind:?}: {found}"
        );
    }
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    for twice in ["d/readme.html", "d/a.bin", "./d/./readme.html", "other/a.bin"] {
        let mut entries = good();
        entries.push(file(twice, b"again"));
        let found = error(&tar_gz(&entries));
        assert!(matches!(found, ArchiveError::Duplicate { .. }), "{twice}: {found}");
    }
}

#[test]
fn sizes_are_checked_before_bytes_are_read() {
    let mut entries = good();
    entries[3] = file("a.bin", &[0; 11]);
    let found = error(&tar_gz(&entries));
    assert!(matches!(found, ArchiveError::EntryTooLarge { claimed: 11, limit: 10, .. }), "{found}");

    let mut header = tar::Header::new_gnu();
    header.set_path("a.bin").unwrap();
    header.set_size(u64::MAX / 2);
    header.set_cksum();
    let found = error(&tar_gz(&[header.as_bytes().to_vec()]));
    assert!(matches!(found, ArchiveError::EntryTooLarge { .. }), "{found}");
}

#[test]
fn bombs_stop_at_the_limit() {
    // A file that nobody wants, after the data, and a long name.
    let zeros = vec![0; 40 << 20];
    for entries in [
        [good(), vec![file("zeros", &zeros)]].concat(),
        [good(), vec![vec![0; 1024], zeros.clone()]].concat(),
        vec![entry("././@LongLink", tar::EntryType::GNULongName, &zeros)],
    ] {
        let found = error(&tar_gz(&entries));
        assert!(matches!(found, ArchiveError::TooLarge { .. }), "{found}");
    }
    let many: Vec<_> = (0..1100).map(|number| file(&format!("f{number}"), b"")).collect();
    assert!(matches!(error(&tar_gz(&many)), ArchiveError::TooManyEntries { limit: 1000, .. }));
}

#[test]
fn damage_is_noticed_wherever_it_is() {
    let archive = tar_gz(&good());
    for len in 0..archive.len() {
        let found = error(&archive[..len]);
        assert!(matches!(found, ArchiveError::Damaged { .. } | ArchiveError::EntryDamaged { .. }), "{len}: {found}");
    }
    let mut wrong_sum = archive.clone();
    let crc = wrong_sum.len() - 8;
    wrong_sum[crc] ^= 1;
    assert!(matches!(error(&wrong_sum), ArchiveError::Damaged { .. }));
    assert!(matches!(error(&[&archive[..], b"xyz"].concat()), ArchiveError::Damaged { .. }));
    for other in [&b"PK\x03\x04"[..], b"<!DOCTYPE html>", b"", &gzip(b"not a tar archive")] {
        let found = error(other);
        assert!(matches!(found, ArchiveError::Damaged { .. } | ArchiveError::Missing { .. }), "{found}");
    }
}

#[test]
fn random_damage_is_an_error_or_the_same_files_and_never_panics() {
    let mut rng = stream(11, 0);
    let tar = {
        let mut tar = good().concat();
        tar.resize(tar.len() + 1024, 0);
        tar
    };
    let mut refused = 0;
    for round in 0..6000 {
        let mut bytes = if round % 2 == 0 { tar.clone() } else { gzip(&tar) };
        for _ in 0..1 + rng.next_u32() % 6 {
            let at = rng.next_u32() as usize % bytes.len();
            match rng.next_u32() % 4 {
                0 => bytes[at] ^= 1 << (rng.next_u32() % 8),
                1 => bytes[at] = [0, b'/', b'.', b'7', 0x80, 0xff][rng.next_u32() as usize % 6],
                2 => bytes.insert(at, rng.next_u32() as u8),
                _ => drop(bytes.remove(at)),
            }
        }
        let archive = if round % 2 == 0 { gzip(&bytes) } else { bytes };
        match untar_gz("x", &archive, &WANTED) {
            Ok(files) => assert!(files.iter().all(|file| file.len() <= 10)),
            Err(DataError::Archive(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 3000, "only {refused}: the damage is too mild to test anything");
}
