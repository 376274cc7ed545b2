//! [`AnyCore`]: any core behind one type.
//!
//! A gateway is written for any [`Core`], and compiled for this one: once, in its own crate, instead of once more in every
//! binary and test that starts it. A call through it costs one allocation; what travels is a batch. Each core's crate has the
//! `From` that compiles that core's verbs there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::*;

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any core, local or remote. Cheap to clone.
#[derive(Clone)]
pub struct AnyCore(Arc<dyn Verbs>);

impl AnyCore {
    pub fn new(core: impl Core) -> AnyCore {
        AnyCore(Arc::new(core))
    }
}

impl From<RemoteCore> for AnyCore {
    #[inline(never)]
    fn from(core: RemoteCore) -> AnyCore {
        AnyCore::new(core)
    }
}

/// Each verb of [`Core`] once: as a method that can be called without knowing the core, and back.
macro_rules! verbs {
    ($($verb:ident($($argument:ident: $kind:ty),+) -> $answer:ty;)+) => {
        trait Verbs: Send + Sync {
            $(fn $verb(&self, $($argument: $kind),+) -> Answer<'_, $answer>;)+
        }

        impl<C: Core> Verbs for C {
            $(fn $verb(&self, $($argument: $kind),+) -> Answer<'_, $answer> {
                Box::pin(Core::$verb(self, $($argument),+))
            })+
        }

        impl Core for AnyCore {
            $(fn $verb(&self, $($argument: $kind),+) -> impl Future<Output = $answer> + Send {
                Verbs::$verb(&*self.0, $($argument),+)
            })+
        }
    };
}

with_verbs!(verbs);
