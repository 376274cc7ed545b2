//! A part that is also a binary of its own, with its settings under a prefix.
//!
//! `polymq-kafka --listen A` is `polymq serve --kafka-listen A`. The part's own parser remains the only place that
//! knows its flags, environment variables, keys and defaults: `serve` lends it the flags, and hands back what was given.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, Parser};

/// Adds the part's flags to `command`, each as `--<prefix>-<flag>`, but for those that `serve` decides itself.
pub fn lend<P: Parser>(mut command: Command, prefix: &'static str, decided: &[&str]) -> Command {
    for arg in P::command().get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| is_lent(flag, decided)) else { continue };
        let id = format!("{prefix}-{flag}");
        let mut lent = Arg::new(id.clone()).long(id).num_args(1).help_heading(format!("Settings of {prefix}"));
        if let Some(help) = arg.get_help() {
            lent = lent.help(help.clone());
        }
        if let Some(names) = arg.get_value_names() {
            lent = lent.value_names(names.to_vec());
        }
        command = command.arg(lent);
    }
    command
}

/// The part's settings: what was given under its prefix, `decided` by `serve`, and for the rest its own
/// environment variables, table in the TOML file and defaults.
pub fn settings<P: Parser>(
    matches: &ArgMatches,
    prefix: &'static str,
    decided: &[(&str, String)],
) -> anyhow::Result<P> {
    let mut arguments = vec![format!("polymq-{prefix}")];
    for (flag, value) in decided {
        arguments.extend([format!("--{flag}"), value.clone()]);
    }
    for arg in P::command().get_arguments() {
        let Some(flag) = arg.get_long() else { continue };
        if let Ok(Some(value)) = matches.try_get_one::<String>(&format!("{prefix}-{flag}")) {
            arguments.extend([format!("--{flag}"), value.clone()]);
        }
    }
    let file = matches.get_one::<PathBuf>("config").cloned();
    gateway_runtime::config::load_part(prefix, arguments.into_iter().map(Into::into).collect(), file)
}

fn is_lent(flag: &str, decided: &[&str]) -> bool {
    !["help", "version", "config", "ready-file", "admin-listen", "check"].contains(&flag) && !decided.contains(&flag)
}
