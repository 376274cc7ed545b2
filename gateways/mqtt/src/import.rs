//! `polymq-mqtt --import-password-file`, `--import-acl-file`: what mosquitto has in files becomes the cluster's, for every gateway of the
//! core, at once.
//!
//! Users go where those of all protocols are (`user/…` in meta, as `kafka-configs` and AMQP's definitions make them), rules
//! to `mqtt/acl`. A file with a line that cannot be taken over changes nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use core_rpc::{AnyCore, Core, META_VALUE_BYTES_MAX, MetaCondition, MetaPut};
use gateway_runtime::users::{User, Users};

use crate::state::access::{RULES_KEY, read_acl_file, read_password_file};

/// How long the core may take for one thing.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What stands for a file: the rules are removed.
const NONE: &str = "none";

/// Which files are to be imported.
#[derive(Clone, Debug, Default)]
pub struct Import<'a> {
    pub password_file: Option<&'a Path>,
    /// `none`: there are no rules any more.
    pub acl_file: Option<&'a Path>,
}

/// Imports. Returns what was done, a line for each file.
pub async fn run(core: AnyCore, import: Import<'_>) -> anyhow::Result<Vec<String>> {
    // Both are read before either is written.
    let users = import.password_file.map(read_password_file).transpose()?;
    let rules = match import.acl_file.filter(|path| path.as_os_str() != NONE) {
        Some(path) => {
            let rules = read_acl_file(path)?;
            let bytes = serde_json::to_vec(&rules)?;
            if bytes.len() > META_VALUE_BYTES_MAX {
                bail!("the rules take {} bytes; {META_VALUE_BYTES_MAX} is the most", bytes.len());
            }
            Some((rules.rules.len(), bytes))
        }
        None => None,
    };
    let mut done = Vec::new();
    if let Some(users) = users {
        let store = Users::new(core.clone(), &[])?;
        let (mut added, mut changed) = (0, 0);
        for (name, imported) in users {
            match within(import_user(&store, &name, &imported)).await.with_context(|| format!("user {name:?}"))? {
                true => added += 1,
                false => changed += 1,
            }
        }
        done.push(format!("users: {added} added, {changed} with another password"));
    }
    if import.acl_file.is_some() {
        let key = RULES_KEY.to_owned();
        done.push(match rules {
            Some((count, bytes)) => {
                let value = Bytes::from(bytes);
                let put = MetaPut { key, value, condition: MetaCondition::Always, session: None };
                within(async { Ok(core.meta_put(put).await.map(drop)?) }).await.context("the rules")?;
                format!("rules: {count}, which every gateway obeys that has no --acl-file")
            }
            None => {
                within(async { Ok(core.meta_delete(key, MetaCondition::Always).await?) }).await.context("the rules")?;
                "rules: none any more".to_owned()
            }
        });
    }
    Ok(done)
}

/// True: the user was not there before. What a user may do elsewhere stays; how it logged in does not.
async fn import_user(store: &Users<AnyCore>, name: &str, imported: &User) -> anyhow::Result<bool> {
    let is_new = store.get(name).await?.is_none();
    let change = |user: &mut User| {
        let (tags, loopback_only) = (std::mem::take(&mut user.tags), user.loopback_only);
        *user = User { tags, loopback_only, ..imported.clone() };
    };
    store.change(name, change).await?;
    Ok(is_new)
}

async fn within<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(ANSWER_MAX, asking).await.context("the core does not answer")?
}
