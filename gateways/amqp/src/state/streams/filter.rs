//! Which messages of a stream a consumer wants: `x-stream-filter` and `x-stream-match-unfiltered`. Pure.
//!
//! A publisher gives a message a filter value in the header `x-stream-filter-value`. RabbitMQ filters whole chunks by a Bloom filter,
//! so that its consumers get messages that they did not ask for and look themselves; here each message is looked at, and
//! they get just what they asked for. Strings only, as in RabbitMQ, which overlooks a filter of another type: here it is refused.

use bytes::Bytes;
use codec_amqp::{FieldTable, FieldValue, Properties};

use crate::errors::Refusal;

const FILTER: &str = "x-stream-filter";
const MATCH_UNFILTERED: &str = "x-stream-match-unfiltered";
const FILTER_VALUE: &str = "x-stream-filter-value";

/// What a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    values: Vec<Bytes>,
    /// Messages without a filter value, too.
    match_unfiltered: bool,
}

impl Filter {
    /// Reads a consumer's arguments. None: it wants all.
    pub fn read(arguments: &FieldTable) -> Result<Option<Filter>, Refusal> {
        let wrong =
            |name: &str| Refusal::precondition_failed(format!("invalid arg '{name}': strings or a boolean expected"));
        let text = |value: &FieldValue| match value {
            FieldValue::LongString(text) => Some(text.clone()),
            _ => None,
        };
        let values = match arguments.get(FILTER) {
            None => return Ok(None),
            Some(FieldValue::Array(values)) => values.iter().map(text).collect::<Option<Vec<Bytes>>>(),
            Some(value) => text(value).map(|value| vec![value]),
        };
        let values = values.ok_or_else(|| wrong(FILTER))?;
        let match_unfiltered = match arguments.get(MATCH_UNFILTERED) {
            None => false,
            Some(FieldValue::Bool(match_unfiltered)) => *match_unfiltered,
            Some(_) => return Err(wrong(MATCH_UNFILTERED)),
        };
        Ok(Some(Filter { values, match_unfiltered }))
    }

    /// Whether the consumer wants a message with these properties.
    pub fn wants(&self, properties: &Properties) -> bool {
        match properties.header(FILTER_VALUE) {
            Some(FieldValue::LongString(value)) => self.values.contains(&value),
            // A value that is no string counts as none.
            _ => self.match_unfiltered,
        }
    }
}

#[cfg(test)]
mod tests {
    use codec_amqp::PropertyList;

    use super::*;

    fn properties(value: Option<FieldValue>) -> Properties {
        let headers = value.map(|value| FieldTable::from([(FILTER_VALUE, value)]));
        PropertyList { headers, ..Default::default() }.encode()
    }

    fn wants(arguments: FieldTable, value: Option<FieldValue>) -> bool {
        Filter::read(&arguments).unwrap().is_none_or(|filter| filter.wants(&properties(value)))
    }

    #[test]
    fn a_message_comes_to_who_asked_for_its_value() {
        let one = || FieldTable::from([(FILTER, "a".into())]);
        let both = || FieldTable::from([(FILTER, vec![FieldValue::text("a"), FieldValue::text("b")].into())]);
        assert!(wants(FieldTable::default(), None) && wants(FieldTable::default(), Some("z".into())));
        assert!(wants(one(), Some("a".into())) && !wants(one(), Some("b".into())) && !wants(one(), None));
        assert!(wants(both(), Some("b".into())) && !wants(both(), Some("c".into())));
        let unfiltered = || FieldTable::from([(FILTER, "a".into()), (MATCH_UNFILTERED, true.into())]);
        assert!(wants(unfiltered(), None) && wants(unfiltered(), Some("a".into())));
        assert!(!wants(unfiltered(), Some("b".into())) && wants(unfiltered(), Some(5.into())));
    }

    #[test]
    fn only_strings_are_filters() {
        for wrong in [FieldValue::from(5), vec![FieldValue::from(5)].into(), FieldTable::default().into()] {
            assert!(Filter::read(&FieldTable::from([(FILTER, wrong)])).is_err());
        }
        let wrong = FieldTable::from([(FILTER, "a".into()), (MATCH_UNFILTERED, "true".into())]);
        assert!(Filter::read(&wrong).unwrap_err().text().contains(MATCH_UNFILTERED));
    }
}
