//! Setting and clearing policies.

use core_rpc::{Core, MetaCondition};

use super::policy;
use super::queue_config::QueueType;
use super::records::PolicyRecord;
use super::{Topology, keys};
use crate::errors::Refusal;

/// Where policies of a kind are kept.
fn kind(operator: bool) -> &'static str {
    if operator { "operator-policy" } else { "policy" }
}

impl<C: Core> Topology<C> {
    /// Sets a policy, or an operator's. The texts are RabbitMQ's.
    pub async fn set_policy(
        &self,
        vhost: &str,
        name: &str,
        record: &PolicyRecord,
        operator: bool,
    ) -> Result<(), Refusal> {
        let failed = |reason: String| Refusal::precondition_failed(format!("Validation failed\n\n{reason}\n"));
        if let Err(error) = fancy_regex::Regex::new(&record.pattern) {
            return Err(failed(format!("pattern is not a valid regular expression: {error}")));
        }
        let applies = ["all", "queues", "exchanges"].into_iter().chain(QueueType::ALL.map(QueueType::apply_to));
        if !applies.into_iter().any(|apply_to| apply_to == record.apply_to) {
            return Err(failed(format!(
                "apply-to '{}' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', \
                 'exchanges', or 'all'",
                record.apply_to
            )));
        }
        policy::validate(&record.definition, operator).map_err(failed)?;
        self.put(keys::key(kind(operator), &[vhost, name]), record, MetaCondition::Always).await?;
        Ok(())
    }

    /// False: there was none of this name.
    pub async fn clear_policy(&self, vhost: &str, name: &str, operator: bool) -> Result<bool, Refusal> {
        let key = keys::key(kind(operator), &[vhost, name]);
        let known = self.image().version(&key).is_some();
        self.remove(&key).await?;
        Ok(known)
    }
}
