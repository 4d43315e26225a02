//! Compressed transactions within bounds.
use alloc::vec;
use alloc::vec::Vec;

use super::super::binlog_encode::{EventWriter, mysql_format, pack};
use super::super::decoder::UnpackLimits;
use super::super::event::{Event, Payload};
use super::super::event_type::EventType;
use super::super::format::Checksum;
use super::super::payload::Unpacker;
use super::super::{DecodeError, Fault};

fn events(count: u64) -> Vec<Vec<u8>> {
    let mut writer = EventWriter::new(mysql_format(Checksum::None), 1, 0);
    (0..count).map(|number| writer.event(EventType::XID_EVENT, &Event::Xid(number))).collect()
}

fn payload(data: &[u8]) -> Payload<'_> {
    Payload { zstd: true, unpacked_bytes: None, data }
}

fn read(payload: &Payload<'_>, limits: UnpackLimits) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut unpacker = Unpacker::new();
    let mut events = unpacker.open(payload, limits, 1_000)?;
    let mut all = Vec::new();
    while let Some(event) = events.next_event()? {
        all.push(event.to_vec());
    }
    Ok(all)
}

#[test]
fn all_events_come_out_whole() {
    let limits = UnpackLimits::default();
    // Many blocks of 128 KiB.
    let sent = events(20_000);
    assert_eq!(read(&payload(&pack(&sent)), limits).unwrap(), sent);
    let plain = sent.concat();
    let plain = Payload { zstd: false, ..payload(&plain) };
    assert_eq!(read(&plain, limits).unwrap(), sent);
    let two = [pack(&sent[..7]), pack(&sent[7..])].concat();
    assert_eq!(read(&payload(&two), limits).unwrap(), sent);
    assert_eq!(read(&payload(&[]), limits).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn one_event_at_a_time_is_held() {
    let packed = pack(&events(100_000));
    let payload = payload(&packed);
    let mut unpacker = Unpacker::new();
    let mut events = unpacker.open(&payload, UnpackLimits::default(), 0).unwrap();
    let (mut read, mut held) = (0_u64, 0);
    while let Some(event) = events.next_event().unwrap() {
        read += u64::try_from(event.len()).unwrap();
        held = held.max(events.unpacked() - read);
    }
    assert_eq!(read, 2_700_000);
    assert!(held < 300_000, "{held} bytes at once");
}

#[test]
fn what_is_larger_than_the_limits_is_refused() {
    let packed = pack(&events(10_000));
    let fault = |payload: &Payload<'_>, limits| read(payload, limits).unwrap_err().fault;
    let limits = UnpackLimits { transaction_bytes_max: 200_000, ..UnpackLimits::default() };
    assert_eq!(fault(&payload(&packed), limits), Fault::TooLarge { limit: 200_000 });
    // It is refused before anything is unpacked if it says so.
    let said = Payload { unpacked_bytes: Some(200_001), ..payload(&[]) };
    assert_eq!(fault(&said, limits), Fault::TooLarge { limit: 200_000 });
    let limits = UnpackLimits { event_bytes_max: 26, ..UnpackLimits::default() };
    assert_eq!(fault(&payload(&packed), limits), Fault::TooLarge { limit: 26 });
    let limits = UnpackLimits { window_bytes_max: 1_000, ..UnpackLimits::default() };
    assert_eq!(fault(&payload(&packed), limits), Fault::Packed);
}

#[test]
fn damage_is_an_error_and_never_an_empty_transaction() {
    let sent = events(3);
    let packed = pack(&sent);
    let limits = UnpackLimits::default();
    for len in 1..packed.len() {
        let result = read(&payload(&packed[..len]), limits);
        // Only the checksum of the frame may be missing without a trace.
        assert!(result.is_err(), "{len} of {} bytes: {result:?}", packed.len());
    }
    let size = u64::try_from(sent.concat().len()).unwrap();
    for said in [size - 1, size + 1] {
        let lies = Payload { unpacked_bytes: Some(said), ..payload(&packed) };
        assert_eq!(read(&lies, limits).unwrap_err().field, "unpacked size");
    }
    let broken = vec![sent[0].clone(), sent[1][..20].to_vec()];
    assert_eq!(read(&payload(&pack(&broken)), limits).unwrap_err().field, "event");
    let mut short = sent[0].clone();
    short[9] = 3;
    assert_eq!(read(&payload(&pack(&[short])), limits).unwrap_err().field, "event");
    // What is kept for the next one is clean.
    let mut unpacker = Unpacker::new();
    let lies = payload(&packed[..packed.len() - 1]);
    let mut events = unpacker.open(&lies, limits, 0).unwrap();
    while let Ok(Some(_)) = events.next_event() {}
    let again = payload(&packed);
    let mut events = unpacker.open(&again, limits, 0).unwrap();
    assert_eq!(events.next_event().unwrap(), Some(sent[0].as_slice()));
}
