//! Changes of single keys of a configuration, as IncrementalAlterConfigs asks for them.

use super::definition::{Definition, Kind, elements};
use super::inherit::inherited;
use super::topic::Labels;
use crate::errors::{ErrorCode, Refusal};

/// What to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Set,
    /// Back to the default.
    Delete,
    /// Adds elements to a list.
    Append,
    /// Takes elements from a list.
    Subtract,
}

impl Operation {
    /// The operation by its number on the wire.
    pub fn from_wire(number: i8) -> Option<Self> {
        [Operation::Set, Operation::Delete, Operation::Append, Operation::Subtract]
            .get(usize::try_from(number).ok()?)
            .copied()
    }
}

/// One change.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    pub name: &'a str,
    pub operation: Operation,
    /// Needed by all operations but `Delete`.
    pub value: Option<&'a str>,
}

/// A configuration after the changes, whatever their values. `definition` tells which keys are lists, and what is in them if nothing
/// is set.
pub fn applied(
    labels: &Labels,
    changes: &[Change<'_>],
    definition: fn(&str) -> Option<&'static Definition>,
) -> Result<Labels, Refusal> {
    let mut labels = labels.clone();
    for change in changes {
        let given = change.value.unwrap_or_default();
        match change.operation {
            Operation::Delete => {
                labels.remove(change.name);
            }
            Operation::Set => {
                labels.insert(change.name.to_owned(), given.trim().to_owned());
            }
            Operation::Append | Operation::Subtract => {
                let list = changed_list(&labels, change.name, change.operation, given, definition)?;
                labels.insert(change.name.to_owned(), list);
            }
        }
    }
    Ok(labels)
}

fn changed_list(
    labels: &Labels,
    name: &str,
    operation: Operation,
    given: &str,
    definition: fn(&str) -> Option<&'static Definition>,
) -> Result<String, Refusal> {
    let Some(definition) = definition(name).filter(|definition| definition.kind == Kind::List) else {
        let word = if operation == Operation::Append { "APPEND to" } else { "SUBTRACT from" };
        let message = format!("Can't {word} key {name} because its type is not LIST.");
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    };
    let before = labels.get(name).map(String::as_str).or_else(|| inherited(labels, name));
    let mut list: Vec<&str> = elements(before.unwrap_or(definition.default)).collect();
    for element in elements(given) {
        match operation {
            Operation::Append if !list.contains(&element) => list.push(element),
            Operation::Subtract => list.retain(|kept| *kept != element),
            _ => {}
        }
    }
    Ok(list.join(","))
}

#[cfg(test)]
mod tests {
    use super::super::{check_labels, topic_definition};
    use super::*;

    fn changed(labels: &Labels, changes: &[Change<'_>]) -> Result<Labels, String> {
        let labels = applied(labels, changes, topic_definition).map_err(|refusal| refusal.message)?;
        check_labels(&labels).map(|()| labels)
    }

    fn change<'a>(name: &'a str, operation: Operation, value: &'a str) -> Change<'a> {
        Change { name, operation, value: Some(value) }
    }

    #[test]
    fn keys_are_set_deleted_and_edited() {
        const LIST: &str = "leader.replication.throttled.replicas";
        let labels = changed(&Labels::new(), &[change("retention.ms", Operation::Set, "5")]).unwrap();
        assert_eq!(labels["retention.ms"], "5");
        let labels = changed(&labels, &[change("retention.ms", Operation::Delete, "")]).unwrap();
        assert!(labels.is_empty());
        let labels = changed(&labels, &[change(LIST, Operation::Append, "0:1,1:1")]).unwrap();
        let labels = changed(&labels, &[change(LIST, Operation::Append, "1:1")]).unwrap();
        assert_eq!(labels[LIST], "0:1,1:1");
        let labels = changed(&labels, &[change(LIST, Operation::Subtract, "0:1")]).unwrap();
        assert_eq!(labels[LIST], "1:1");
        let compacted = changed(&labels, &[change("cleanup.policy", Operation::Append, "compact")]).unwrap();
        assert_eq!(compacted["cleanup.policy"], "delete,compact");
        assert!(changed(&labels, &[change("cleanup.policy", Operation::Append, "shred")]).is_err());
        assert!(changed(&labels, &[change("retention.ms", Operation::Append, "1")]).is_err());
        assert!(changed(&labels, &[change("no.such", Operation::Set, "1")]).is_err());
    }

    #[test]
    fn operations_have_numbers() {
        assert_eq!(Operation::from_wire(1), Some(Operation::Delete));
        assert_eq!(Operation::from_wire(4), None);
        assert_eq!(Operation::from_wire(-1), None);
    }
}
