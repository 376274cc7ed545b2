//! Access rules: who may do what with which resource (KIP-11, KIP-290).
//!
//! A rule denies or allows one principal one operation on resources of one name, or of all names with a prefix. A
//! denial goes before everything; without a rule that allows, a request is refused.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Matches every name, principal or host.
pub const WILDCARD: &str = "*";
/// The principal of rules for everybody.
pub const EVERYBODY: &str = "User:*";
/// The one resource of the type [`ResourceType::Cluster`].
pub const CLUSTER_NAME: &str = "kafka-cluster";

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(i8)]
        pub enum $name { $($variant = $code,)* }

        impl $name {
            /// By its number on the wire.
            pub fn of(code: i8) -> Option<$name> {
                match code {
                    $($code => Some($name::$variant),)*
                    _ => None,
                }
            }

            pub fn code(self) -> i8 {
                self as i8
            }
        }
    };
}

wire_enum! {
    /// What a rule is about. (1 is "any" in filters.)
    ResourceType { Topic = 2, Group = 3, Cluster = 4, TransactionalId = 5, DelegationToken = 6, User = 7, }
}

wire_enum! {
    /// How a rule's name is meant. (1 is "any" and 2 "match" in filters.)
    Pattern { Literal = 3, Prefixed = 4, }
}

wire_enum! {
    /// What is done. (1 is "any" in filters.)
    Operation {
        All = 2, Read = 3, Write = 4, Create = 5, Delete = 6, Alter = 7, Describe = 8, ClusterAction = 9,
        DescribeConfigs = 10, AlterConfigs = 11, IdempotentWrite = 12, CreateTokens = 13, DescribeTokens = 14,
        TwoPhaseCommit = 15,
    }
}

wire_enum! {
    /// What a rule says. (1 is "any" in filters.)
    Permission { Deny = 2, Allow = 3, }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    pub resource_type: ResourceType,
    pub name: String,
    pub pattern: Pattern,
    pub principal: String,
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}

impl Acl {
    /// Whether the rule's name covers this one.
    fn covers(&self, name: &str) -> bool {
        match self.pattern {
            Pattern::Literal => self.name == name || self.name == WILDCARD,
            Pattern::Prefixed => name.starts_with(&self.name),
        }
    }

    fn is_for(&self, principal: &str, host: &str) -> bool {
        (self.principal == principal || self.principal == EVERYBODY) && (self.host == host || self.host == WILDCARD)
    }

    /// Whether a rule that says so much about `self.operation` says it about `wanted` too.
    fn speaks_of(&self, wanted: Operation) -> bool {
        if self.operation == Operation::All || self.operation == wanted {
            return true;
        }
        // Who may do something with a thing may see it; who may not do something may still see it.
        self.permission == Permission::Allow
            && match wanted {
                Operation::Describe => {
                    matches!(self.operation, Operation::Read | Operation::Write | Operation::Delete | Operation::Alter)
                }
                Operation::DescribeConfigs => self.operation == Operation::AlterConfigs,
                _ => false,
            }
    }
}

/// Which rules are meant; None: any.
#[derive(Clone, Debug, Default)]
pub struct AclFilter {
    pub resource_type: Option<ResourceType>,
    pub name: Option<String>,
    pub pattern: PatternFilter,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatternFilter {
    #[default]
    Any,
    /// Rules that cover the name, however they are meant.
    Match,
    Is(Pattern),
}

impl AclFilter {
    pub fn accepts(&self, acl: &Acl) -> bool {
        fn meets<T: PartialEq>(wanted: &Option<T>, actual: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == actual)
        }
        let named = match (&self.name, self.pattern) {
            (None, PatternFilter::Is(pattern)) => acl.pattern == pattern,
            (None, _) => true,
            (Some(name), PatternFilter::Any) => acl.name == *name,
            (Some(name), PatternFilter::Match) => acl.covers(name),
            (Some(name), PatternFilter::Is(pattern)) => acl.pattern == pattern && acl.name == *name,
        };
        named
            && meets(&self.resource_type, &acl.resource_type)
            && meets(&self.principal, &acl.principal)
            && meets(&self.host, &acl.host)
            && meets(&self.operation, &acl.operation)
            && meets(&self.permission, &acl.permission)
    }
}

/// What the rules say of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
    /// No rule is about the resource.
    NoRule,
}

/// All rules, found by what they are about.
#[derive(Clone, Debug, Default)]
pub struct AclSet {
    literal: HashMap<(ResourceType, String), Vec<Acl>>,
    prefixed: HashMap<ResourceType, Vec<Acl>>,
}

impl AclSet {
    pub fn of(acls: impl IntoIterator<Item = Acl>) -> AclSet {
        let mut set = AclSet::default();
        for acl in acls {
            let rules = match acl.pattern {
                Pattern::Literal => set.literal.entry((acl.resource_type, acl.name.clone())).or_default(),
                Pattern::Prefixed => set.prefixed.entry(acl.resource_type).or_default(),
            };
            rules.push(acl);
        }
        set
    }

    /// The rules that cover a resource.
    fn about<'a>(&'a self, resource_type: ResourceType, name: &'a str) -> impl Iterator<Item = &'a Acl> {
        let literal = |name: &str| self.literal.get(&(resource_type, name.to_owned())).into_iter().flatten();
        let everything = if name == WILDCARD { None } else { Some(literal(WILDCARD)) };
        let prefixed = self.prefixed.get(&resource_type).into_iter().flatten();
        literal(name).chain(everything.into_iter().flatten()).chain(prefixed.filter(move |acl| acl.covers(name)))
    }

    pub fn verdict(
        &self,
        principal: &str,
        host: &str,
        operation: Operation,
        resource_type: ResourceType,
        name: &str,
    ) -> Verdict {
        let mut verdict = Verdict::NoRule;
        let mut allowed = false;
        for acl in self.about(resource_type, name) {
            verdict = Verdict::Denied;
            if acl.is_for(principal, host) && acl.speaks_of(operation) {
                match acl.permission {
                    Permission::Deny => return Verdict::Denied,
                    Permission::Allow => allowed = true,
                }
            }
        }
        if allowed { Verdict::Allowed } else { verdict }
    }

    /// Whether the principal may do this with some resource of the type: one that an allowing rule names and that no
    /// rule denies altogether.
    pub fn allows_some(&self, principal: &str, host: &str, operation: Operation, resource_type: ResourceType) -> bool {
        let literal = self.literal.iter().filter(|((of, _), _)| *of == resource_type).flat_map(|(_, acls)| acls);
        let mine = literal
            .chain(self.prefixed.get(&resource_type).into_iter().flatten())
            .filter(|acl| acl.is_for(principal, host) && acl.speaks_of(operation));
        let (denying, allowing): (Vec<&Acl>, Vec<&Acl>) = mine.partition(|acl| acl.permission == Permission::Deny);
        allowing.iter().any(|allowing| {
            !denying.iter().any(|denying| match (denying.pattern, allowing.pattern) {
                (Pattern::Literal, _) => {
                    denying.name == WILDCARD || (denying.name == allowing.name && allowing.pattern == Pattern::Literal)
                }
                (Pattern::Prefixed, _) => allowing.name.starts_with(&denying.name),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(text: &str) -> Acl {
        let parts: Vec<&str> = text.split(' ').collect();
        let [permission, principal, operation, name] = parts[..] else { panic!("{text}") };
        let (name, pattern) = match name.strip_suffix("..") {
            Some(prefix) => (prefix, Pattern::Prefixed),
            None => (name, Pattern::Literal),
        };
        Acl {
            resource_type: ResourceType::Topic,
            name: name.into(),
            pattern,
            principal: format!("User:{principal}"),
            host: WILDCARD.into(),
            operation: operation_of(operation),
            permission: if permission == "allow" { Permission::Allow } else { Permission::Deny },
        }
    }

    fn operation_of(name: &str) -> Operation {
        match name {
            "all" => Operation::All,
            "read" => Operation::Read,
            "write" => Operation::Write,
            "describe" => Operation::Describe,
            other => panic!("{other}"),
        }
    }

    fn verdict(rules: &[&str], principal: &str, operation: &str, name: &str) -> Verdict {
        let principal = format!("User:{principal}");
        let set = AclSet::of(rules.iter().map(|rule| acl(rule)));
        set.verdict(&principal, "10.0.0.1", operation_of(operation), ResourceType::Topic, name)
    }

    #[test]
    fn rules_are_applied_in_kafkas_order() {
        use Verdict::*;
        let cases: &[(&[&str], &str, &str, &str, Verdict)] = &[
            (&[], "a", "read", "t", NoRule),
            (&["allow a read t"], "a", "read", "t", Allowed),
            (&["allow a read t"], "b", "read", "t", Denied),
            (&["allow a read t"], "a", "read", "u", NoRule),
            (&["allow a read t"], "a", "write", "t", Denied),
            (&["allow a read t"], "a", "describe", "t", Allowed),
            (&["allow a describe t"], "a", "read", "t", Denied),
            (&["allow * all *", "deny b write t"], "b", "write", "t", Denied),
            (&["allow * all *", "deny b write t"], "b", "describe", "t", Allowed),
            (&["allow a all logs-.."], "a", "write", "logs-1", Allowed),
            (&["allow a all logs-.."], "a", "write", "log", NoRule),
            (&["allow a all logs-..", "deny a read logs-1"], "a", "read", "logs-1", Denied),
            (&["allow * read *"], "b", "read", "t", Allowed),
        ];
        for (rules, principal, operation, name, wanted) in cases {
            assert_eq!(verdict(rules, principal, operation, name), *wanted, "{rules:?} {principal} {operation} {name}");
        }
    }

    #[test]
    fn some_resource_is_allowed_unless_all_are_denied() {
        let some = |rules: &[&str]| {
            let set = AclSet::of(rules.iter().map(|rule| acl(rule)));
            set.allows_some("User:a", "h", Operation::Write, ResourceType::Topic)
        };
        assert!(some(&["allow a write t"]));
        assert!(!some(&["allow a read t"]));
        assert!(!some(&["allow a write t", "deny a write t"]));
        assert!(!some(&["allow a write t", "deny a all *"]));
        assert!(some(&["allow a write t..", "deny a write t"]));
        assert!(!some(&["allow a write tt..", "deny a write t.."]));
    }

    #[test]
    fn filters_match_by_name_pattern_or_coverage() {
        let rules: Vec<Acl> =
            ["allow a read t", "allow a read *", "allow a read t..", "allow a read u"].map(acl).to_vec();
        let count = |name: Option<&str>, pattern| {
            let filter = AclFilter { name: name.map(str::to_owned), pattern, ..AclFilter::default() };
            rules.iter().filter(|acl| filter.accepts(acl)).count()
        };
        assert_eq!(count(None, PatternFilter::Any), 4);
        assert_eq!(count(Some("t"), PatternFilter::Any), 2);
        assert_eq!(count(Some("t"), PatternFilter::Match), 3);
        assert_eq!(count(Some("t"), PatternFilter::Is(Pattern::Prefixed)), 1);
        assert_eq!(count(None, PatternFilter::Is(Pattern::Literal)), 3);
    }
}
