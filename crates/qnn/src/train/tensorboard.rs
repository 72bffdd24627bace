//! TensorBoard event files: the history as scalars, in the TFRecord framing that TensorBoard reads.
//!
//! A record is its length (u64), the masked CRC-32C of those 8 bytes, a protobuf `Event`, and the masked CRC-32C of that
//! (tensorflow/core/lib/io/record_writer.h and core/util/event.proto). The file is written anew after every epoch, so that it
//! never disagrees with the history; events carry steps and no wall time, because a run does not read the clock.

use prost::Message;

use super::EpochRecord;

/// Name of the file beside the history; TensorBoard looks for `tfevents` in it.
pub(crate) const FILE: &str = "events.out.tfevents.0.ternion";

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// The whole file; `penalties` names the penalties of each record, the step of an event is the number of training steps
/// done.
pub(crate) fn events(history: &[EpochRecord], penalties: &[String]) -> Vec<u8> {
    let version = What::FileVersion("brain.Event:2".into());
    let mut bytes = Vec::new();
    record(&mut bytes, &Event { wall_time: 0.0, step: 0, what: Some(version) });
    let mut step = 0;
    for epoch in history {
        step += epoch.train.steps;
        let mut value = Vec::new();
        let mut add = |tag: String, v: f64| value.push(Scalar { tag, simple_value: v as f32 });
        add("loss/train".into(), epoch.train.loss);
        add("accuracy/train".into(), epoch.train.accuracy);
        if let Some(validation) = &epoch.validation {
            add("loss/validation".into(), validation.loss);
            add("accuracy/validation".into(), validation.accuracy());
        }
        add("learning_rate".into(), epoch.rate);
        for (name, v) in penalties.iter().zip(&epoch.train.penalties) {
            add(format!("penalty/{name}"), *v);
        }
        for (name, v) in &epoch.train.terms {
            add(format!("term/{name}"), *v);
        }
        for (name, v) in &epoch.probes {
            add(format!("probe/{name}"), *v);
        }
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        record(&mut bytes, &Event { wall_time: 0.0, step, what: Some(What::Summary(Summary { value })) });
    }
    bytes
}

fn record(bytes: &mut Vec<u8>, event: &Event) {
    let payload = event.encode_to_vec();
    let length = (payload.len() as u64).to_le_bytes();
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(&payload);
    bytes.extend(masked_crc(&payload).to_le_bytes());
}

/// CRC-32C, rotated and offset so that a checksum of data with checksums in it stays meaningful.
fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::Evaluation;
    use crate::train::EpochStats;

    #[test]
    fn the_first_record_is_what_tensorflow_writes() {
        // `tf.summary.create_file_writer` begins every file so (wall time aside): length 24 with wall time, here 15.
        let bytes = events(&[], &[]);
        assert_eq!(&bytes[..8], &15u64.to_le_bytes());
        assert_eq!(&bytes[12..27], b"\x1a\x0dbrain.Event:2");
        assert_eq!(masked_crc(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn records_read_back_as_the_history() {
        let record = EpochRecord {
            epoch: 0,
            train: EpochStats { loss: 1.5, accuracy: 0.25, penalties: vec![3.0], terms: vec![], steps: 7 },
            validation: Some(Evaluation { samples: 4, correct: 3, loss: 0.5 }),
            rate: 0.125,
            probes: vec![],
        };
        let bytes = events(&[record.clone(), record], &["jacobian".to_owned()]);
        let (mut at, mut steps, mut tags) = (0, Vec::new(), Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let payload = &bytes[at + 12..at + 12 + length];
            let crc = u32::from_le_bytes(bytes[at + 12 + length..at + 16 + length].try_into().unwrap());
            assert_eq!(crc, masked_crc(payload));
            let event = Event::decode(payload).unwrap();
            if let Some(What::Summary(summary)) = event.what {
                steps.push(event.step);
                tags = summary.value.iter().map(|v| (v.tag.clone(), v.simple_value)).collect();
            }
            at += 16 + length;
        }
        assert_eq!(steps, [7, 14]);
        let expected = [
            ("loss/train", 1.5),
            ("accuracy/train", 0.25),
            ("loss/validation", 0.5),
            ("accuracy/validation", 0.75),
            ("learning_rate", 0.125),
            ("penalty/jacobian", 3.0),
        ];
        assert_eq!(tags, expected.map(|(tag, v)| (tag.to_owned(), v)));
    }
}
