//! Configuration in layers: a flag before the environment before the TOML file before the default.
//!
//! A binary declares its flags once, with clap (`#[arg(long, env = "POLYMQ_KAFKA_LISTEN")]`). The file has the same
//! keys, with `-` or `_`, at its top or in the binary's own table; a key that no flag has is an error, not ignored:
//!
//! ```toml
//! core = "127.0.0.1:7401"
//! [kafka]
//! listen = "0.0.0.0:9092"
//! ```
//! A list gives its flag as many values; a table in a list is the JSON of what it holds. Tables are other binaries', so that one
//! file serves all; but one whose name is nearly the own one's is a slip.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Command, Parser};
use core_process::suggest;

/// The environment's name for the path of the file.
pub const CONFIG_ENV: &str = "POLYMQ_CONFIG";

/// Parses this process's arguments, environment and file. `section` is the binary's table in the file. Ends the
/// process with a message where the flags are wrong, as clap does.
pub fn load<P: Parser>(section: &str) -> anyhow::Result<P> {
    parse(section, true, std::env::args_os().collect(), None)
}

/// As [`load`], for a part of a process whose own command line names the file: of it only the part's table is read,
/// since the keys at its top are the process's.
pub fn load_part<P: Parser>(section: &str, arguments: Vec<OsString>, file: Option<PathBuf>) -> anyhow::Result<P> {
    parse(section, false, arguments, file)
}

fn parse<P: Parser>(
    section: &str,
    with_top: bool,
    arguments: Vec<OsString>,
    file: Option<PathBuf>,
) -> anyhow::Result<P> {
    let path = file.or_else(|| config_path(&arguments)).or_else(|| std::env::var_os(CONFIG_ENV).map(PathBuf::from));
    let command = match path {
        Some(path) => with_file(P::command(), &path, section, with_top)?,
        None => P::command(),
    };
    let matches = command.get_matches_from(arguments);
    Ok(P::from_arg_matches(&matches)?)
}

/// `command` with the keys at the top of the file, if one is named, as its defaults; the tables are its parts', and no others
/// may be there.
pub fn with_top_of_file(command: Command, parts: &[&str]) -> anyhow::Result<Command> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let Some(path) = config_path(&arguments).or_else(|| std::env::var_os(CONFIG_ENV).map(PathBuf::from)) else {
        return Ok(command);
    };
    let text = read(&path)?;
    let with_top = || {
        check_tables(&text, parts)?;
        with_text(command, &text, "", true)
    };
    with_top().with_context(|| format!("in {}", path.display()))
}

fn check_tables(text: &str, parts: &[&str]) -> anyhow::Result<()> {
    for (key, value) in toml::from_str::<toml::Table>(text)? {
        if value.is_table() && !parts.contains(&&*key) {
            bail!("unknown table [{key}]{}", suggest::hint(&key, parts.iter().copied()));
        }
    }
    Ok(())
}

/// The value of `--config`, found before the other flags are parsed since it decides their defaults.
fn config_path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|argument| argument.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    None
}

fn with_file(command: Command, path: &Path, section: &str, with_top: bool) -> anyhow::Result<Command> {
    with_text(command, &read(path)?, section, with_top).with_context(|| format!("in {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The command with the file's values as its defaults.
fn with_text(mut command: Command, text: &str, section: &str, with_top: bool) -> anyhow::Result<Command> {
    let file: toml::Table = toml::from_str(text)?;
    let mut values: Vec<(String, toml::Value)> = Vec::new();
    for (key, value) in file {
        match value {
            toml::Value::Table(table) if key == section => values.extend(table),
            toml::Value::Table(_) if suggest::nearest(&key, [section]).is_some() => {
                bail!("unknown table [{key}]; did you mean [{section}]?")
            }
            // The tables of other binaries; one file serves all.
            toml::Value::Table(_) => {}
            value if with_top => values.push((key, value)),
            _ => {}
        }
    }
    for (key, value) in values {
        let flag = key.replace('_', "-");
        let Some(id) =
            command.get_arguments().find(|arg| arg.get_long() == Some(&flag)).map(|arg| arg.get_id().clone())
        else {
            let flags = command.get_arguments().filter_map(|arg| arg.get_long());
            bail!("unknown key {key}{}", suggest::hint(&flag, flags));
        };
        let values = match value {
            toml::Value::Array(values) => {
                values.into_iter().map(|value| text_of(&key, value, true)).collect::<anyhow::Result<_>>()?
            }
            value => vec![text_of(&key, value, false)?],
        };
        // Defaults live as long as the command, which lives as long as the process; there are a few dozen at most.
        let values: Vec<&'static str> = values.into_iter().map(|value| &*value.leak()).collect();
        command = command.mut_arg(id, |arg| arg.default_values(values).required(false));
    }
    Ok(command)
}

fn text_of(key: &str, value: toml::Value, is_listed: bool) -> anyhow::Result<String> {
    Ok(match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(truth) => truth.to_string(),
        toml::Value::Table(table) if is_listed => serde_json::to_string(&table)?,
        _ => bail!("the value of {key} is neither a string, a number nor a boolean"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches};

    #[derive(Parser)]
    struct Flags {
        #[arg(long)]
        core: String,
        #[arg(long, default_value = "a:1")]
        listen_at: String,
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        auto: bool,
        #[arg(long)]
        rule: Vec<String>,
    }

    fn parse(text: &str, arguments: &[&str]) -> anyhow::Result<Flags> {
        let command = with_text(Flags::command(), text, "kafka", true)?;
        Ok(Flags::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let text = "core = 'c:1'\n[kafka]\nlisten_at = 'b:2'\nauto = false\n[mqtt]\nother = 1";
        let flags = parse(text, &["x", "--listen-at", "c:3"]).unwrap();
        assert_eq!((flags.core.as_str(), flags.listen_at.as_str(), flags.auto), ("c:1", "c:3", false));
        assert_eq!(parse(text, &["x"]).unwrap().listen_at, "b:2");
    }

    #[test]
    fn a_list_is_many_values() {
        let text = "core = 'c'\n[kafka]\nrule = ['a', 'b c']";
        assert_eq!(parse(text, &["x"]).unwrap().rule, ["a", "b c"]);
        assert_eq!(parse(text, &["x", "--rule", "d"]).unwrap().rule, ["d"]);
        assert!(parse("core = 'c'\n[kafka]\nrule = []", &["x"]).unwrap().rule.is_empty());
        let tables = "core = 'c'\n[[kafka.rule]]\nname = 'a'\nqos = 1\n[[kafka.rule]]\nname = 'b'";
        assert_eq!(parse(tables, &["x"]).unwrap().rule, [r#"{"name":"a","qos":1}"#, r#"{"name":"b"}"#]);
        assert!(parse("core = 'c'\n[kafka]\nrule = [['a']]", &["x"]).is_err());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let said = |text: &str| parse(text, &["x"]).err().map(|error| format!("{error:#}"));
        let meant = said("core = 'c'\n[kafka]\nlisten = 'b:2'").unwrap();
        assert!(meant.contains("unknown key listen; did you mean listen-at?"), "{meant}");
        assert!(said("core = 'c'\ncolour = 1").is_some_and(|said| said.ends_with("unknown key colour")));
        let meant = said("core = 'c'\n[kafak]\nlisten_at = 'b:2'").unwrap();
        assert!(meant.contains("did you mean [kafka]?"), "{meant}");
        assert!(said("core = 'c'\n[mqtt]\nx = 1\n[amqp]\nx = 1").is_none());
        let tables = |text| check_tables(text, &["core", "kafka"]).err().map(|error| error.to_string());
        assert_eq!(tables("a = 1\n[core]\n[kafka]"), None);
        assert_eq!(tables("[cores]").unwrap(), "unknown table [cores]; did you mean core?");
        assert_eq!(tables("[http]").unwrap(), "unknown table [http]");
    }

    #[test]
    fn the_file_is_named_by_either_form_of_the_flag() {
        let path = |arguments: &[&str]| config_path(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(path(&["x", "--config", "f"]), Some("f".into()));
        assert_eq!(path(&["x", "--core=1", "--config=f"]), Some("f".into()));
        assert_eq!(path(&["x"]), None);
    }
}
