//! Messages as they are stored, which any client of the core may have written: both ways of reading them agree, and compaction
//! leaves what it is told to.
#![no_main]

use bytes::Bytes;
use codec_record::mqtt_message::{MqttFormat, messages, nth, walk};
use codec_record::{Batch, BatchHeader, Format, FormatId, Retained};
use libfuzzer_sys::fuzz_target;

fn header(payload: &Bytes, count: u32) -> BatchHeader {
    Batch::new(FormatId::MQTT, count, 0, payload.clone()).header
}

fuzz_target!(|input: &[u8]| {
    let [keep, payload @ ..] = input else { return };
    let payload = Bytes::copy_from_slice(payload);
    let borrowed: Result<Vec<_>, _> = walk(&payload).collect();
    let owned: Result<Vec<_>, _> = messages(&payload).collect();
    let (Ok(borrowed), Ok(owned)) = (&borrowed, &owned) else {
        assert_eq!(borrowed.is_err(), owned.is_err());
        return;
    };
    assert_eq!(borrowed.len(), owned.len());
    for (stored, view) in borrowed.iter().zip(owned) {
        assert_eq!((stored.position, stored.parts), (view.position, view.parts()));
        assert_eq!(nth(&payload, view.position).as_ref(), Ok(&Some(view.clone())));
    }
    let header = header(&payload, borrowed.last().map_or(1, |last| last.position + 1));
    let mut keys = 0;
    assert!(MqttFormat.keys(&header, &payload, &mut |_| keys += 1).is_ok());
    assert_eq!(keys, borrowed.len());
    // Every other one, by the bits of the first byte.
    let is_kept = |position: u32| keep >> (position % 8) & 1 == 1;
    let kept: Vec<_> = borrowed.iter().filter(|stored| is_kept(stored.position)).collect();
    match MqttFormat.retain(&header, &payload, &mut |record| is_kept(record.position)).expect("it was read before") {
        Retained::All => assert_eq!(kept.len(), borrowed.len()),
        Retained::None { payload } => {
            assert!(kept.is_empty());
            assert_eq!(walk(&payload).count(), 0);
        }
        Retained::Some { payload, .. } => {
            let left: Vec<_> = walk(&payload).map(|stored| stored.expect("our own writing")).collect();
            assert_eq!(left.len(), kept.len());
            for (left, kept) in left.iter().zip(kept) {
                assert_eq!((left.position, left.bytes), (kept.position, kept.bytes));
            }
        }
    }
});
