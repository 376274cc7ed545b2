//! Vhosts are the core's namespaces; this is how they are called there.
//!
//! `/`, which every client uses unless it is told otherwise, is `default`, so that the other protocols' clients see its
//! queues. So that it stays reversible, a vhost called `default`, or beginning with `%`, gets one `%` in front.

use std::borrow::Cow;

/// The vhost that exists from the start.
pub const DEFAULT_VHOST: &str = "/";
/// Its namespace.
const DEFAULT_NAMESPACE: &str = "default";

/// The namespace of a vhost.
pub fn namespace(vhost: &str) -> Cow<'_, str> {
    if vhost == DEFAULT_VHOST {
        Cow::Borrowed(DEFAULT_NAMESPACE)
    } else if vhost == DEFAULT_NAMESPACE || vhost.starts_with('%') {
        Cow::Owned(format!("%{vhost}"))
    } else {
        Cow::Borrowed(vhost)
    }
}

/// The vhost of a namespace; the inverse of [`namespace`]. None: no vhost is called so there.
pub fn vhost(namespace: &str) -> Option<&str> {
    if namespace == DEFAULT_NAMESPACE {
        return Some(DEFAULT_VHOST);
    }
    if namespace == DEFAULT_VHOST {
        return None;
    }
    match namespace.strip_prefix('%') {
        Some(vhost) if vhost == DEFAULT_NAMESPACE || vhost.starts_with('%') => Some(vhost),
        Some(_) => None,
        None => Some(namespace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_vhost_is_the_default_namespace() {
        assert_eq!(namespace("/"), "default");
        assert_eq!(namespace("default"), "%default");
        assert_eq!(namespace("%x"), "%%x");
        assert_eq!(namespace("orders"), "orders");
        assert_eq!((vhost("/"), vhost("%x")), (None, None));
    }

    proptest! {
        #[test]
        fn names_come_back(name in "[/%a-z]{0,8}|default|%*default") {
            let namespace = namespace(&name);
            prop_assert_eq!(vhost(&namespace), Some(name.as_str()));
        }
    }
}
