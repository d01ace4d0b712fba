//! A trace as Perfetto's UI opens it: packets of perfetto's `trace_packet.proto`, with `track_event.proto` in them.
//!
//! Field numbers are those of perfetto's protos/perfetto/trace, which never change: <https://perfetto.dev/docs/reference/trace-packet-proto>.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::protobuf::Message;
use super::track::{Group, Mark, Shape, Track, Value};

/// Trace (trace.proto).
mod trace {
    pub(super) const PACKET: u32 = 1;
}

/// TracePacket (trace_packet.proto).
mod packet {
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const TRUSTED_PACKET_SEQUENCE_ID: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const SEQUENCE_FLAGS: u32 = 13;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;
    /// SequenceFlags: nothing that came before is referred to.
    pub(super) const SEQ_INCREMENTAL_STATE_CLEARED: u64 = 1;
}

/// TrackDescriptor (track_descriptor.proto).
mod descriptor {
    pub(super) const UUID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const PARENT_UUID: u32 = 5;
    pub(super) const CHILD_ORDERING: u32 = 11;
    pub(super) const SIBLING_ORDER_RANK: u32 = 12;
    pub(super) const DESCRIPTION: u32 = 14;
    /// ChildTracksOrdering: by `sibling_order_rank`.
    pub(super) const EXPLICIT: u64 = 3;
}

/// TrackEvent (track_event.proto).
mod event {
    pub(super) const DEBUG_ANNOTATIONS: u32 = 4;
    pub(super) const TYPE: u32 = 9;
    pub(super) const TRACK_UUID: u32 = 11;
    pub(super) const NAME: u32 = 23;
    pub(super) const FLOW_IDS: u32 = 47;
    /// Type.
    pub(super) const SLICE_BEGIN: u64 = 1;
    pub(super) const SLICE_END: u64 = 2;
    pub(super) const INSTANT: u64 = 3;
}

/// DebugAnnotation (debug_annotation.proto).
mod annotation {
    pub(super) const UINT_VALUE: u32 = 3;
    pub(super) const STRING_VALUE: u32 = 6;
    pub(super) const NAME: u32 = 10;
}

/// All packets are of one sequence: there is one writer.
const SEQUENCE: u64 = 1;
/// Rows kept apart; a guest can invent tasks. What would need more is counted and left out.
const MOST_TRACKS: usize = 4096;

/// Writes a trace.
#[derive(Debug)]
pub(super) struct Perfetto<W> {
    out: W,
    devices: Vec<String>,
    tracks: BTreeMap<Track, u64>,
    written: u64,
    left_out: u64,
}

impl<W: Write> Perfetto<W> {
    /// Begins a trace. `devices`: names of those in slots 0 and up.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(out: W, devices: Vec<String>) -> io::Result<Self> {
        let mut writer = Self { out, devices, tracks: BTreeMap::new(), written: 0, left_out: 0 };
        let mut first = Message::default();
        first.number(packet::SEQUENCE_FLAGS, packet::SEQ_INCREMENTAL_STATE_CLEARED);
        writer.packet(first)?;
        // Perfetto's UI opens a single row at the top one level deep, and keeps to ranks only below a row that asks for that;
        // several rows at the top it sorts by name and shows closed. A clock snapshot, which would tell the time of day, gets a
        // row at the top too: the run says when it began.
        let mut run = Message::default();
        run.number(descriptor::UUID, ROOT)
            .text(descriptor::NAME, &Track::Run.name(&[]))
            .number(descriptor::CHILD_ORDERING, descriptor::EXPLICIT);
        writer.describe(&run)?;
        writer.tracks.insert(Track::Run, ROOT);
        for group in Group::ALL {
            let mut track = Message::default();
            track
                .number(descriptor::UUID, group_uuid(group))
                .number(descriptor::PARENT_UUID, ROOT)
                .text(descriptor::NAME, group.name())
                .number(descriptor::CHILD_ORDERING, descriptor::EXPLICIT)
                .number(descriptor::SIBLING_ORDER_RANK, group.rank())
                .text(descriptor::DESCRIPTION, group.description());
            writer.describe(&track)?;
        }
        Ok(writer)
    }

    /// Draws a mark. They need not come in the order of time: readers sort them.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn mark(&mut self, mark: &Mark) -> io::Result<()> {
        let Some(track) = self.track(&mark.track)? else {
            self.left_out = self.left_out.saturating_add(1);
            return Ok(());
        };
        let mut event = Message::default();
        event.number(event::TRACK_UUID, track);
        match &mark.shape {
            Shape::Begin(name) => event.number(event::TYPE, event::SLICE_BEGIN).text(event::NAME, name),
            Shape::End => event.number(event::TYPE, event::SLICE_END),
            Shape::Instant(name) => event.number(event::TYPE, event::INSTANT).text(event::NAME, name),
        };
        for (name, value) in &mark.arguments {
            let mut annotation = Message::default();
            annotation.text(annotation::NAME, name);
            match value {
                Value::Text(text) => annotation.text(annotation::STRING_VALUE, text),
                Value::Number(number) => annotation.number(annotation::UINT_VALUE, *number),
            };
            event.message(event::DEBUG_ANNOTATIONS, &annotation);
        }
        if let Some(flow) = mark.flow {
            event.fixed(event::FLOW_IDS, flow);
        }
        let mut whole = Message::default();
        whole.number(packet::TIMESTAMP, mark.at_ns).message(packet::TRACK_EVENT, &event);
        self.packet(whole)
    }

    /// Ends the trace. Gives the output, how many packets are in it, and how many marks were left out since there were too
    /// many rows.
    pub(super) fn finish(self) -> (W, u64, u64) {
        (self.out, self.written, self.left_out)
    }

    /// The track's number; nothing if there are too many already.
    fn track(&mut self, track: &Track) -> io::Result<Option<u64>> {
        if let Some(uuid) = self.tracks.get(track) {
            return Ok(Some(*uuid));
        }
        if self.tracks.len() >= MOST_TRACKS {
            return Ok(None);
        }
        let uuid = FIRST_ROW + self.tracks.len() as u64;
        let mut row = Message::default();
        row.number(descriptor::UUID, uuid)
            .number(descriptor::PARENT_UUID, track.group().map_or(ROOT, group_uuid))
            .text(descriptor::NAME, &track.name(&self.devices))
            .number(descriptor::SIBLING_ORDER_RANK, track.rank());
        self.describe(&row)?;
        self.tracks.insert(track.clone(), uuid);
        Ok(Some(uuid))
    }

    fn describe(&mut self, track: &Message) -> io::Result<()> {
        let mut whole = Message::default();
        whole.message(packet::TRACK_DESCRIPTOR, track);
        self.packet(whole)
    }

    fn packet(&mut self, mut content: Message) -> io::Result<()> {
        content.number(packet::TRUSTED_PACKET_SEQUENCE_ID, SEQUENCE);
        let mut trace = Message::default();
        trace.message(trace::PACKET, &content);
        self.written += 1;
        self.out.write_all(trace.bytes())
    }
}

/// Numbers of tracks are the writer's own; 0 is the track of whoever names none.
const ROOT: u64 = 1;
const FIRST_ROW: u64 = ROOT + 1 + Group::ALL.len() as u64;

fn group_uuid(group: Group) -> u64 {
    ROOT + 1 + group as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of a message, read back.
    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Number(u64),
        Bytes(Vec<u8>),
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn fields(mut bytes: &[u8]) -> Vec<(u32, Field)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)),
                wire_type => {
                    let len = if wire_type == 1 { 8 } else { usize::try_from(varint(&mut bytes)).unwrap() };
                    let (value, rest) = bytes.split_at(len);
                    bytes = rest;
                    Field::Bytes(value.to_vec())
                }
            };
            fields.push((u32::try_from(tag >> 3).unwrap(), value));
        }
        fields
    }

    fn get(fields: &[(u32, Field)], number: u32) -> Option<&Field> {
        fields.iter().find(|(field, _)| *field == number).map(|(_, value)| value)
    }

    fn inner(packet: &[(u32, Field)], number: u32) -> Option<Vec<(u32, Field)>> {
        match get(packet, number) {
            Some(Field::Bytes(bytes)) => Some(fields(bytes)),
            _ => None,
        }
    }

    fn packets(trace: &[u8]) -> Vec<Vec<(u32, Field)>> {
        let whole = fields(trace);
        assert!(whole.iter().all(|(field, _)| *field == trace::PACKET));
        whole
            .into_iter()
            .map(|(_, packet)| match packet {
                Field::Bytes(bytes) => fields(&bytes),
                Field::Number(_) => panic!("a packet is a message"),
            })
            .collect()
    }

    fn mark(at_ns: u64, track: Track, shape: Shape) -> Mark {
        Mark { at_ns, track, shape, arguments: vec![("n", Value::Number(7)), ("text", "ü".into())], flow: Some(3) }
    }

    #[test]
    fn a_track_is_described_before_anything_is_on_it() {
        let mut writer = Perfetto::new(Vec::new(), vec!["gpio".into()]).unwrap();
        for shape in [Shape::Begin("b".into()), Shape::End] {
            writer.mark(&mark(9, Track::Slot(0), shape)).unwrap();
        }
        let (trace, written, left_out) = writer.finish();
        let packets = packets(&trace);
        assert_eq!((packets.len() as u64, left_out), (written, 0));
        assert_eq!(
            get(&packets[0], packet::SEQUENCE_FLAGS),
            Some(&Field::Number(packet::SEQ_INCREMENTAL_STATE_CLEARED))
        );
        assert!(
            packets.iter().all(|packet| get(packet, packet::TRUSTED_PACKET_SEQUENCE_ID) == Some(&Field::Number(1)))
        );
        let last = packets.len();
        let row = inner(&packets[last - 3], packet::TRACK_DESCRIPTOR).unwrap();
        assert_eq!(get(&row, descriptor::NAME), Some(&Field::Bytes(b"Slot(1): gpio".to_vec())));
        assert_eq!(get(&row, descriptor::PARENT_UUID), Some(&Field::Number(ROOT)));
        assert!(packets[..last - 3].iter().any(|packet| {
            inner(packet, packet::TRACK_DESCRIPTOR)
                .is_some_and(|run| get(&run, descriptor::UUID) == Some(&Field::Number(ROOT)))
        }));
        assert_eq!(get(&packets[last - 2], packet::TIMESTAMP), Some(&Field::Number(9)));
        let begin = inner(&packets[last - 2], packet::TRACK_EVENT).unwrap();
        assert_eq!(get(&begin, event::TRACK_UUID), get(&row, descriptor::UUID));
        assert_eq!(get(&begin, event::NAME), Some(&Field::Bytes(b"b".to_vec())));
        assert_eq!(get(&begin, event::FLOW_IDS), Some(&Field::Bytes(3_u64.to_le_bytes().to_vec())));
        let arguments: Vec<_> = begin.iter().filter(|(field, _)| *field == event::DEBUG_ANNOTATIONS).collect();
        assert_eq!(arguments.len(), 2);
    }

    #[test]
    fn a_guest_that_invents_tasks_gets_no_more_rows_than_are_kept() {
        let mut writer = Perfetto::new(io::sink(), Vec::new()).unwrap();
        for lane in 0..5000 {
            let task = Track::Task { name: "t".into(), lane };
            writer.mark(&mark(1, task, Shape::Instant("i".into()))).unwrap();
        }
        assert_eq!(writer.tracks.len(), MOST_TRACKS);
        // One of them is the run's.
        assert_eq!(writer.finish().2, 5001 - MOST_TRACKS as u64);
    }
}
