//! mosquitto's password file: `NAME:HASH` on each line.

use std::collections::BTreeMap;

use gateway_runtime::mosquitto::MosquittoHash;
use gateway_runtime::users::User;

use super::lines::{LineError, LineErrors, all_or_errors};

/// Reads the file's text. As in mosquitto, lines that begin with `#` or have no colon are passed over, and of two lines for
/// one user the first holds.
pub fn parse(text: &str) -> Result<BTreeMap<String, User>, LineErrors> {
    let (mut users, mut errors) = (BTreeMap::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end_matches('\r');
        let Some((name, hash)) = line.split_once(':').filter(|_| !line.starts_with('#')) else { continue };
        match MosquittoHash::parse(hash.trim()) {
            _ if name.is_empty() => errors.push(LineError { line: at + 1, what: "a user without a name".into() }),
            Ok(hash) => {
                users.entry(name.to_owned()).or_insert_with(|| User { mosquitto: Some(hash), ..User::default() });
            }
            Err(error) => errors.push(LineError { line: at + 1, what: format!("user {name:?}: {error}") }),
        }
    }
    all_or_errors(users, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Debian's mosquitto_passwd 2.0.11.
    const FILE: &str = "\
alice:$7$101$68gsrh5sEvZK9W4Y$4HeKlGiYctjAhtjfJhKdeczpiCMt2TFUa6JeZMz7dIRqK/ih44mpDetJ7ot6GVN81SGyMqhVuXE9Lm/Q6etnnA==
bob:$6$wVBZfeeJ7OJzzG4W$blftQHSflwAg5qZwktNjG4/PFFS7dY9f/4Sg0jlbeNutencFKuxUox5NK7qM9yMPYhBhcgPK3rMGdllJQyAvhQ==
carol d:$7$1000$d8/G3qrrG0Gf/Ug0$D+QlWRk+wKaF9AdPxlgkWPQ565SpTOJkre1W2A/ep7e31gJHsXgKC/uCzh4G63z5zftG22BcvupNG8iFdkHgdA==
";

    #[test]
    fn users_keep_their_passwords() {
        let users = parse(FILE).unwrap();
        for (name, password) in [("alice", "secret"), ("bob", "pa:ss w"), ("carol d", "ünï")] {
            assert!(users[name].accepts(password) && !users[name].accepts("other"), "{name}");
        }
        assert_eq!(users.len(), 3);
        let twice = format!("# comment\n\n{FILE}{}", FILE.replace("bob", "alice"));
        assert!(parse(&twice).unwrap()["alice"].accepts("secret"));
    }

    #[test]
    fn what_cannot_be_taken_over_is_named() {
        let error = parse("# a:b\nalice:secret\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: user \"alice\": the password is not hashed"), "{error}");
        assert!(parse("bob:$argon2id$v=19$m=1,t=1,p=1$a$b").unwrap_err().to_string().contains("sha512-pbkdf2"));
    }
}
