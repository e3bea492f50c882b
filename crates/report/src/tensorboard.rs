//! Event files for TensorBoard: the scalars of `metrics.jsonl`, in the record format that TensorFlow writes.
//!
//! A record is the length of its content (8 bytes, little-endian), the masked CRC-32C of these 8 bytes, the content and
//! the masked CRC-32C of the content (4 bytes each). The content is a Protocol Buffers message `Event`: `wall_time`
//! (field 1), `step` (2), `file_version` (3, in the first record) and `summary` (5), whose values (1) have a `tag` (1)
//! and a `simple_value` (2). `metrics.jsonl` holds no times, so every wall time is 0 and the same log gives the same
//! bytes.

use std::path::{Path, PathBuf};

use neokd_evaluate::interval::Share;
use neokd_evaluate::{Error, files};
use neokd_train::run::metrics::{Record, TermRecord};
use neokd_train::run::run_dir::RunDir;

use crate::history;
use crate::run::Run;

/// What TensorBoard expects in the first record.
const VERSION: &str = "brain.Event:2";
/// Name of an event file; TensorBoard looks for `tfevents` in it.
const FILE: &str = "events.out.tfevents.0.neokd";

/// A name with a slash after its group, and a value.
type Scalar = (String, f32);

/// Writes the scalars of a run into a folder `name` of its own in `folder`, and gives the file's path.
///
/// # Errors
/// [`Error::RunDir`] if the run has no `metrics.jsonl`; [`Error::Io`].
pub fn write(run: &Run, name: &str, folder: &Path) -> Result<PathBuf, Error> {
    let log = RunDir::at(&run.source).metrics_path();
    if !log.exists() {
        return Err(Error::RunDir {
            folder: run.source.clone(),
            why: "no metrics.jsonl inside, so no scalars for --tensorboard; give a directory that neokd train wrote"
                .to_string(),
        });
    }
    let (records, _) = history::records(&files::read(&log)?);
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let path = folder.join(FILE);
    files::write_atomically(&path, &events(&records))?;
    Ok(path)
}

/// The content of an event file.
fn events(records: &[Record]) -> Vec<u8> {
    let mut bytes = record(&event(0, &bytes_field(3, VERSION.as_bytes())));
    for (step, scalars) in records.iter().map(scalars) {
        let values = scalars.iter().map(|(tag, value)| {
            let tag = bytes_field(1, tag.as_bytes());
            bytes_field(1, &[&tag[..], &[fixed32_key(2)], &value.to_le_bytes()].concat())
        });
        let summary: Vec<u8> = values.flatten().collect();
        bytes.extend(record(&event(step, &bytes_field(5, &summary))));
    }
    bytes
}

/// The step of a line of the log, and its numbers by name.
fn scalars(record: &Record) -> (u64, Vec<Scalar>) {
    let of_terms = |group: &str, terms: &[TermRecord]| -> Vec<Scalar> {
        let exits = terms.iter().flat_map(|term| term.exits.iter().enumerate().map(move |exit| (&term.name, exit)));
        exits.map(|(name, (exit, value))| (format!("{group}/{name}/exit {exit}"), *value)).collect()
    };
    let of_shares = |group: &str, shares: &[Share]| -> Vec<Scalar> {
        let exits = shares.iter().enumerate();
        exits.map(|(exit, share)| (format!("{group}/exit {exit}"), share.value as f32)).collect()
    };
    match record {
        Record::Step(step) => {
            let whole = [("loss/total".to_string(), step.total), ("rate/learning".to_string(), step.rate as f32)];
            (step.step, whole.into_iter().chain(of_terms("loss", &step.loss)).collect())
        }
        Record::Validation(look) => {
            let clean = of_shares("validation/clean", &look.clean);
            (look.step, clean.into_iter().chain(of_shares("validation/robust", &look.robust)).collect())
        }
        Record::Probe(look) => {
            let fgsm = of_shares("probe/fgsm", &look.fgsm);
            (look.step, fgsm.into_iter().chain(of_shares("probe/pgd", &look.pgd)).collect())
        }
        Record::Transfer(look) => {
            let rows = look.matrix.iter().enumerate();
            (look.step, rows.flat_map(|(exit, row)| of_shares(&format!("transfer/from exit {exit}"), row)).collect())
        }
        Record::Epoch { step, loss, .. } => (*step, of_terms("epoch", loss)),
    }
}

fn event(step: u64, content: &[u8]) -> Vec<u8> {
    let wall_time = [&[(1 << 3) | 1][..], &0.0_f64.to_le_bytes()].concat();
    // Fields that are zero are left out.
    let step = if step == 0 { Vec::new() } else { [vec![2 << 3], varint(step)].concat() };
    [wall_time, step, content.to_vec()].concat()
}

fn fixed32_key(field: u8) -> u8 {
    (field << 3) | 5
}

fn bytes_field(field: u8, content: &[u8]) -> Vec<u8> {
    [&[(field << 3) | 2][..], &varint(content.len() as u64), content].concat()
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), content, &masked(content)].concat()
}

/// A CRC that may be stored beside, and within, what it is of.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli), bit by bit: a log has few megabytes.
fn crc32c(bytes: &[u8]) -> u32 {
    const REVERSED: u32 = 0x82f6_3b78;
    let shifted = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ REVERSED } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shifted(crc)))
}

#[cfg(test)]
mod tests {
    use neokd_train::run::best::ValidationRecord;
    use neokd_train::run::metrics::StepRecord;

    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, section B.4, and the check value of the catalogue of CRC algorithms.
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_file_begins_as_those_of_tensorflow_do() {
        let file = events(&[]);
        assert_eq!(file[..12], [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(file[12..23], [9, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 13]);
        assert_eq!(&file[23..36], b"brain.Event:2");
        assert_eq!(file.len(), 40);
    }

    #[test]
    fn a_value_is_a_tag_and_a_float_at_a_step() {
        let share = Share::new(1, 2);
        let look = Record::Validation(ValidationRecord { step: 300, clean: vec![share], robust: Vec::new() });
        let file = events(&[look]);
        let content = &file[40 + 12..file.len() - 4];
        let value = [&[10, 23][..], b"validation/clean/exit 0", &[0x15], &0.5_f32.to_le_bytes()].concat();
        let summary = [&[0x2a, 32, 10, 30][..], &value].concat();
        assert_eq!(content[9..], [&[0x10, 0xac, 0x02][..], &summary].concat());
    }

    #[test]
    fn a_step_has_its_rate_and_every_term_of_every_exit() {
        let loss = vec![TermRecord { name: "nkd".to_string(), exits: vec![1.0, 2.0] }];
        let (step, found) = scalars(&Record::Step(StepRecord { step: 7, epoch: 0, rate: 0.5, total: 3.0, loss }));
        let expected =
            [("loss/total", 3.0), ("rate/learning", 0.5), ("loss/nkd/exit 0", 1.0), ("loss/nkd/exit 1", 2.0)];
        assert_eq!(step, 7);
        assert_eq!(found, expected.map(|(name, value)| (name.to_string(), value)));
    }
}
