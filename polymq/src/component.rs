//! A part that is also a binary of its own, with its settings under a prefix.
//!
//! `polymq-kafka --listen A` is `polymq serve --kafka-listen A`. The part's own parser remains the only place that
//! knows its flags, environment variables, keys and defaults: `serve` lends it the flags, and hands back what was given.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

/// Adds the part's flags to `command`, each as `--<prefix>-<flag>`, but for those that `serve` decides itself.
pub fn lend<P: Parser>(mut command: Command, prefix: &'static str, decided: &[&str]) -> Command {
    for arg in P::command().get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| is_lent(flag, decided)) else { continue };
        let id = format!("{prefix}-{flag}");
        let mut lent = Arg::new(id.clone())
            .long(id)
            .num_args(1)
            .action(ArgAction::Append)
            .help_heading(format!("Settings of {prefix}"));
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
        // Whether a flag may be given again is the part's to say.
        let given = matches.try_get_many::<String>(&format!("{prefix}-{flag}")).ok().flatten();
        for value in given.into_iter().flatten() {
            arguments.extend([format!("--{flag}"), value.clone()]);
        }
    }
    let file = matches.get_one::<PathBuf>("config").cloned();
    gateway_runtime::config::load_part(prefix, arguments.into_iter().map(Into::into).collect(), file)
}

fn is_lent(flag: &str, decided: &[&str]) -> bool {
    const NOT_TO_SERVE: [&str; 9] = [
        "help",
        "version",
        "config",
        "ready-file",
        "admin-listen",
        "worker-threads",
        "check",
        "import-password-file",
        "import-acl-file",
    ];
    !NOT_TO_SERVE.contains(&flag) && !decided.contains(&flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Part {
        #[arg(long)]
        rule: Vec<String>,
        #[arg(long, default_value = "a")]
        name: String,
        #[arg(long)]
        check: Option<String>,
    }

    #[test]
    fn flags_are_lent_and_given_back_as_often_as_they_were_said() {
        let config = Arg::new("config").long("config").value_parser(clap::value_parser!(PathBuf));
        let command = lend::<Part>(Command::new("serve").arg(config), "part", &[]);
        let of = |more: &[&str]| command.clone().try_get_matches_from([&["serve"], more].concat());
        let matches = of(&["--part-rule", "x=1", "--part-name", "b", "--part-rule", "y=2"]).unwrap();
        let part: Part = settings(&matches, "part", &[]).unwrap();
        assert_eq!((part.rule, part.name.as_str()), (vec!["x=1".to_owned(), "y=2".to_owned()], "b"));
        let part: Part = settings(&of(&[]).unwrap(), "part", &[("name", "c".into())]).unwrap();
        assert!(part.rule.is_empty() && part.name == "c" && part.check.is_none());
        // What a process does instead of serving is not for serve.
        assert!(of(&["--part-check", "x"]).is_err());
    }
}
