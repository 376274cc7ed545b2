//! Random valid values, for tests.

use bytes::Bytes;
use codec_record::amqp_message::{FieldTable, FieldValue, PropertyList, ShortStr};

/// Xorshift: the same from the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 3
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn bytes(&mut self) -> Bytes {
        let length = match self.below(8) {
            0 => 0,
            1 => self.below(400),
            _ => self.below(12),
        };
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub fn text(&mut self, bytes_max: u64) -> String {
        let length = match self.below(8) {
            0 => 0,
            1 => bytes_max,
            _ => self.below(12),
        };
        (0..length).map(|_| char::from(b' ' + self.below(95) as u8)).collect()
    }

    pub fn short_str(&mut self) -> ShortStr {
        ShortStr::try_from(self.text(255)).unwrap()
    }

    /// Names ascend, for the oracle sorts them.
    pub fn table(&mut self, depth: u32) -> FieldTable {
        let mut fields = Vec::new();
        for index in 0..self.below(5) {
            let name = format!("{index}{}", self.text(20));
            fields.push((ShortStr::try_from(name).unwrap(), self.value(depth)));
        }
        FieldTable(fields)
    }

    pub fn value(&mut self, depth: u32) -> FieldValue {
        let next = self.next();
        match self.below(if depth == 0 { 15 } else { 17 }) {
            0 => FieldValue::Bool(next & 1 == 1),
            1 => FieldValue::I8(next as i8),
            2 => FieldValue::U8(next as u8),
            3 => FieldValue::I16(next as i16),
            4 => FieldValue::U16(next as u16),
            5 => FieldValue::I32(next as i32),
            6 => FieldValue::U32(next as u32),
            7 => FieldValue::I64(next as i64),
            8 => FieldValue::F32(next as f32),
            9 => FieldValue::F64(next as f64),
            10 => FieldValue::Decimal { scale: next as u8, value: (next >> 8) as u32 },
            11 => FieldValue::LongString(self.bytes()),
            12 => FieldValue::Binary(self.bytes()),
            13 => FieldValue::Timestamp(next),
            14 => FieldValue::Void,
            15 => FieldValue::Array((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            _ => FieldValue::Table(self.table(depth - 1)),
        }
    }

    pub fn properties(&mut self) -> PropertyList {
        let there = self.next();
        let mut bit = 0;
        let mut is_there = || {
            bit += 1;
            there >> bit & 1 == 1
        };
        let mut short = |is_there: bool| is_there.then(|| self.short_str().bytes().clone());
        let mut list = PropertyList {
            content_type: short(is_there()),
            content_encoding: short(is_there()),
            correlation_id: short(is_there()),
            reply_to: short(is_there()),
            expiration: short(is_there()),
            message_id: short(is_there()),
            kind: short(is_there()),
            user_id: short(is_there()),
            app_id: short(is_there()),
            cluster_id: short(is_there()),
            ..Default::default()
        };
        list.headers = is_there().then(|| self.table(2));
        list.delivery_mode = is_there().then(|| self.next() as u8);
        list.priority = is_there().then(|| self.next() as u8);
        list.timestamp = is_there().then(|| self.next());
        list
    }
}
