//! Whether what is declared again is the same, with RabbitMQ's texts where not.

use super::arguments::{Argument, Arguments};
use super::validate::Resource;
use crate::errors::Refusal;

/// Whether a property is as it was declared.
pub fn property<T: PartialEq + ToString>(
    resource: Resource<'_>,
    name: &str,
    current: T,
    received: T,
) -> Result<(), Refusal> {
    if current == received {
        return Ok(());
    }
    Err(inequivalent(resource, name, &quoted(&received.to_string()), &quoted(&current.to_string())))
}

/// Whether the arguments of these names are as they were declared.
pub fn arguments(
    resource: Resource<'_>,
    names: &[&str],
    current: &Arguments,
    received: &Arguments,
) -> Result<(), Refusal> {
    for name in names {
        let (received, current) = match (received.get(name), current.get(name)) {
            (None, None) => continue,
            (Some(received), Some(current)) if received.equivalent(current) => continue,
            (Some(received), Some(current)) => (quoted(&received.to_text()), quoted(&current.to_text())),
            (received, current) => (typed(received), typed(current)),
        };
        return Err(inequivalent(resource, name, &received, &current));
    }
    Ok(())
}

fn inequivalent(resource: Resource<'_>, name: &str, received: &str, current: &str) -> Refusal {
    Refusal::precondition_failed(format!(
        "inequivalent arg '{name}' for {resource}: received {received} but current is {current}"
    ))
}

fn quoted(value: &str) -> String {
    format!("'{value}'")
}

fn typed(value: Option<&Argument>) -> String {
    match value {
        None => "none".into(),
        Some(value) => format!("the value '{}' of type '{}'", value.to_text(), value.type_name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_rabbitmqs() {
        let queue = Resource::Queue("/", "q");
        assert_eq!(
            property(queue, "durable", true, false).unwrap_err().text(),
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
        );
        let some = |value| [("x-max-length".to_owned(), value)].into_iter().collect::<Arguments>();
        let asked = |current: &Arguments, received: &Arguments| {
            arguments(queue, &["x-max-length"], current, received).map_err(|refusal| refusal.explanation.into_owned())
        };
        let (five, six) = (some(Argument::SignedInt(5)), some(Argument::SignedInt(6)));
        let begin = "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received ";
        assert_eq!(asked(&five, &some(Argument::Long(5))), Ok(()));
        assert_eq!(asked(&five, &six), Err(format!("{begin}'6' but current is '5'")));
        assert_eq!(
            asked(&Arguments::default(), &five),
            Err(format!("{begin}the value '5' of type 'signedint' but current is none"))
        );
        assert_eq!(
            asked(&five, &Arguments::default()),
            Err(format!("{begin}none but current is the value '5' of type 'signedint'"))
        );
    }
}
