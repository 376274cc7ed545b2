//! docs/kafka.md lists exactly what is served and which configurations there are.

use std::collections::BTreeSet;

use kafka_gateway::configs::TOPIC_CONFIGS;
use kafka_gateway::handlers::SERVED;

const PAGE: &str = include_str!("../../../../docs/kafka.md");

#[test]
fn the_table_of_requests_is_the_code_s() {
    let served: BTreeSet<String> = SERVED
        .iter()
        .map(|served| {
            let (first, last) = (served.versions.start(), served.versions.end());
            format!("| {:?} | {} | {first}–{last} |", served.api, served.api as i16)
        })
        .collect();
    let documented: BTreeSet<String> = PAGE
        .lines()
        .filter(|line| line.contains('–') && line.starts_with("| "))
        .map(|line| line.splitn(5, '|').take(4).collect::<Vec<_>>().join("|") + "|")
        .collect();
    assert_eq!(served, documented);
}

#[test]
fn every_topic_configuration_is_explained() {
    for definition in TOPIC_CONFIGS {
        assert!(PAGE.contains(&format!("`{}`", definition.name)), "{}", definition.name);
    }
}
