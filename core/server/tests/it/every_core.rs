//! The ways to reach a core, each of which a suite goes.

/// Each test of the module, which is given a core, once for every way to reach one.
macro_rules! for_every_core {
    ($($test:ident)*) => {
        for_every_core!(@ local $($test)*);
        for_every_core!(@ remote_tcp $($test)*);
        for_every_core!(@ remote_unix $($test)*);
    };
    (@ $way:ident $($test:ident)*) => {
        mod $way {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let world = crate::support::$way().await;
                crate::support::within(stringify!($test), super::$test(world.core.clone())).await;
                world.stop().await;
            })*
        }
    };
}
pub(crate) use for_every_core;
