//! The methods that this gateway serves: THE table, and what a handler is.
//!
//! One file per method; one line in the table. Two kinds:
//!
//! - under `after_publishes`: `QueueDeclare => queue_declare;` names `async fn handle(&mut Request<'_, C>, queue::Declare) -> Result<(), Refusal>`. One
//!   runs at a time on a channel, in the order in which methods came. Before it runs, all that the connection
//!   published before it is appended, so that it sees that. Meanwhile what else comes for the channel waits, and the other
//!   channels go on (`session/busy.rs`).
//! - under `now`: `BasicAck => basic_ack;` names `fn handle(&mut Request<'_, C>, basic::Ack) -> Result<(), Refusal>`, which waits for
//!   nothing; publishes may still be on their way.
//!
//! A handler answers with [`Request::reply`], as often as it has to (not at all under `no_wait`), or by [`Request::replies`]
//! where a content follows. A [`Refusal`] closes the channel or the connection, as its code says; what was replied before
//! it is sent. Who may do what, each handler asks before it acts (`gateway.access`).
//!
//! The methods of class connection and channel.open, channel.close are the session's (`session/frames.rs`), as is the
//! content behind basic.publish.

use std::sync::Arc;

use codec_amqp::{Method, Outgoing};
use core_rpc::Core;

use crate::Gateway;
use crate::errors::Refusal;
use crate::state::access::Permission;
use crate::state::channel::{Channel, Settles};
use crate::state::registry::Connection;
use crate::state::topology::{Queue, Resource};

/// What a handler works with.
pub struct Request<'a, C> {
    pub gateway: &'a Arc<Gateway<C>>,
    /// Who asks: user, vhost, capabilities, outbox.
    pub connection: &'a Arc<Connection>,
    /// The channel on which it is asked.
    pub channel: &'a mut Channel,
    /// What is sent back, in order.
    pub replies: &'a mut Outgoing,
    /// Which channels have settled something in this read round.
    pub settles: &'a mut Settles,
}

impl<C: Core> Request<'_, C> {
    /// The queue of this name, if the user and the connection may use it.
    pub async fn usable_queue(&self, name: &str, permission: Permission) -> Result<Arc<Queue>, Refusal> {
        let Request { gateway, connection, .. } = self;
        let resource = Resource::Queue(&connection.vhost, name);
        gateway.access.check(connection, permission, resource)?;
        gateway.topology.look_for(resource).await?;
        gateway.topology.usable_queue(&connection.vhost, name, &connection.holder_prefix)
    }
}

impl<C> Request<'_, C> {
    /// Answers on the channel.
    pub fn reply(&mut self, method: impl Into<Method>) {
        self.replies.put_method(self.channel.number, &method.into());
    }
}

/// Whether a method may be handled while what was published before it is still on its way.
pub(crate) enum Turn {
    Now,
    AfterPublishes,
}

macro_rules! table {
    (
        now { $($now_variant:ident => $now_module:ident;)* }
        after_publishes { $($variant:ident => $module:ident;)* }
    ) => {
        $(mod $now_module;)*
        $(mod $module;)*

        /// When it is a method's turn.
        pub(crate) fn turn(method: &Method) -> Turn {
            match method {
                $(Method::$now_variant(_) => Turn::Now,)*
                _ => Turn::AfterPublishes,
            }
        }

        /// Handles a method that waits for nothing.
        pub(crate) fn handle_now<C: Core>(request: &mut Request<'_, C>, method: Method) -> Result<(), Refusal> {
            match method {
                $(Method::$now_variant(method) => $now_module::handle(request, method),)*
                other => Err(not_served(&other)),
            }
        }

        /// Handles a method. Boxed, handler by handler, so that an idle connection does not keep room for the largest.
        pub(crate) async fn handle<C: Core>(request: &mut Request<'_, C>, method: Method) -> Result<(), Refusal> {
            match method {
                $(Method::$variant(method) => Box::pin($module::handle(request, method)).await,)*
                other => Err(not_served(&other)),
            }
        }
    };
}

mod settling;

pub(crate) use queue_declare::{handle_run as handle_declares, run as run_of_declares};

table! {
    now {
        AccessRequest => access_request;
        BasicAck => basic_ack;
        BasicNack => basic_nack;
        BasicReject => basic_reject;
    }
    after_publishes {
        ChannelFlow => channel_flow;
        ConfirmSelect => confirm_select;
        TxSelect => tx_select;
        TxCommit => tx_commit;
        TxRollback => tx_rollback;
        ExchangeDeclare => exchange_declare;
        ExchangeDelete => exchange_delete;
        ExchangeBind => exchange_bind;
        ExchangeUnbind => exchange_unbind;
        QueueDeclare => queue_declare;
        QueueBind => queue_bind;
        QueuePurge => queue_purge;
        QueueDelete => queue_delete;
        QueueUnbind => queue_unbind;
        BasicQos => basic_qos;
        BasicConsume => basic_consume;
        BasicCancel => basic_cancel;
        BasicGet => basic_get;
        BasicRecover => basic_recover;
        BasicRecoverAsync => basic_recover_async;
    }
}

/// As RabbitMQ answers what only a server sends.
fn not_served(_: &Method) -> Refusal {
    Refusal::command_invalid("unimplemented method")
}
