//! Methods: AMQP's requests and answers. One file per class, one struct per method, [`Method`] for any of them.
//!
//! ```text
//! payload of a method frame   u16 class │ u16 method │ arguments, one behind the other; bits that follow each other
//!                             share octets, lowest bit first
//! ```

pub mod access;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

mod schema;

use bytes::{Bytes, BytesMut};

use crate::frame::{FrameKind, put_frame};
use codec_record::amqp_message::{Reader, SyntaxError};
pub use schema::{Argument, Arguments, Writer};

/// A method frame's payload that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// AMQP does not have it (540).
    #[error("unknown method {class}.{method}")]
    Unknown { class: u16, method: u16 },
    /// Its arguments are not what they must be (502). Class and method are 0 if not even they are there.
    #[error("method {class}.{method}: {error}")]
    Syntax { class: u16, method: u16, error: SyntaxError },
}

macro_rules! methods {
    ($($variant:ident($class:ident::$name:ident),)*) => {
        /// Any method, of either direction.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Method {
            $($variant($class::$name),)*
        }

        impl Method {
            fn read(class: u16, method: u16, reader: &mut Reader<'_>) -> Option<Result<Self, SyntaxError>> {
                Some(match (class, method) {
                    $((<$class::$name as Arguments>::CLASS, <$class::$name as Arguments>::METHOD) =>
                        <$class::$name as Arguments>::read(reader).map(Method::$variant),)*
                    _ => return None,
                })
            }

            /// Writes class, method and arguments.
            fn write(&self, writer: &mut Writer<'_>) {
                match self {
                    $(Method::$variant(method) => method.write(writer),)*
                }
            }

            /// Class and method number, as `connection.close` and `channel.close` want them.
            pub fn id(&self) -> (u16, u16) {
                match self {
                    $(Method::$variant(_) =>
                        (<$class::$name as Arguments>::CLASS, <$class::$name as Arguments>::METHOD),)*
                }
            }

            /// As people know it: `queue.declare`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Method::$variant(_) => <$class::$name as Arguments>::NAME,)*
                }
            }

            /// One of each, with random arguments.
            #[cfg(test)]
            pub(crate) fn one_of_each(random: &mut crate::sample::Random) -> Vec<Method> {
                vec![$(Method::$variant(<$class::$name as Arguments>::sample(random)),)*]
            }
        }

        $(impl From<$class::$name> for Method {
            fn from(method: $class::$name) -> Self {
                Method::$variant(method)
            }
        })*
    };
}

methods! {
    ConnectionStart(connection::Start),
    ConnectionStartOk(connection::StartOk),
    ConnectionSecure(connection::Secure),
    ConnectionSecureOk(connection::SecureOk),
    ConnectionTune(connection::Tune),
    ConnectionTuneOk(connection::TuneOk),
    ConnectionOpen(connection::Open),
    ConnectionOpenOk(connection::OpenOk),
    ConnectionClose(connection::Close),
    ConnectionCloseOk(connection::CloseOk),
    ConnectionBlocked(connection::Blocked),
    ConnectionUnblocked(connection::Unblocked),
    ConnectionUpdateSecret(connection::UpdateSecret),
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    ChannelOpen(channel::Open),
    ChannelOpenOk(channel::OpenOk),
    ChannelFlow(channel::Flow),
    ChannelFlowOk(channel::FlowOk),
    ChannelClose(channel::Close),
    ChannelCloseOk(channel::CloseOk),
    AccessRequest(access::Request),
    AccessRequestOk(access::RequestOk),
    ExchangeDeclare(exchange::Declare),
    ExchangeDeclareOk(exchange::DeclareOk),
    ExchangeDelete(exchange::Delete),
    ExchangeDeleteOk(exchange::DeleteOk),
    ExchangeBind(exchange::Bind),
    ExchangeBindOk(exchange::BindOk),
    ExchangeUnbind(exchange::Unbind),
    ExchangeUnbindOk(exchange::UnbindOk),
    QueueDeclare(queue::Declare),
    QueueDeclareOk(queue::DeclareOk),
    QueueBind(queue::Bind),
    QueueBindOk(queue::BindOk),
    QueuePurge(queue::Purge),
    QueuePurgeOk(queue::PurgeOk),
    QueueDelete(queue::Delete),
    QueueDeleteOk(queue::DeleteOk),
    QueueUnbind(queue::Unbind),
    QueueUnbindOk(queue::UnbindOk),
    BasicQos(basic::Qos),
    BasicQosOk(basic::QosOk),
    BasicConsume(basic::Consume),
    BasicConsumeOk(basic::ConsumeOk),
    BasicCancel(basic::Cancel),
    BasicCancelOk(basic::CancelOk),
    BasicPublish(basic::Publish),
    BasicReturn(basic::Return),
    BasicDeliver(basic::Deliver),
    BasicGet(basic::Get),
    BasicGetOk(basic::GetOk),
    BasicGetEmpty(basic::GetEmpty),
    BasicAck(basic::Ack),
    BasicReject(basic::Reject),
    BasicRecoverAsync(basic::RecoverAsync),
    BasicRecover(basic::Recover),
    BasicRecoverOk(basic::RecoverOk),
    BasicNack(basic::Nack),
    TxSelect(tx::Select),
    TxSelectOk(tx::SelectOk),
    TxCommit(tx::Commit),
    TxCommitOk(tx::CommitOk),
    TxRollback(tx::Rollback),
    TxRollbackOk(tx::RollbackOk),
    ConfirmSelect(confirm::Select),
    ConfirmSelectOk(confirm::SelectOk),
}

impl Method {
    /// Reads the payload of a method frame. Strings share its memory.
    pub fn decode(payload: &Bytes) -> Result<Self, MethodError> {
        let mut reader = Reader::new(payload);
        let syntax = |class, method| move |error| MethodError::Syntax { class, method, error };
        let class = reader.u16().map_err(syntax(0, 0))?;
        let number = reader.u16().map_err(syntax(0, 0))?;
        let method = Method::read(class, number, &mut reader);
        let method = method.ok_or(MethodError::Unknown { class, method: number })?;
        let method = method.map_err(syntax(class, number))?;
        reader.finish().map_err(syntax(class, number))?;
        Ok(method)
    }

    /// Writes the whole frame.
    pub fn encode(&self, channel: u16, out: &mut BytesMut) {
        put_frame(out, FrameKind::Method, channel, |out| self.write(&mut Writer::new(out)));
    }

    /// Whether a content header follows, and a body if that says so.
    pub fn has_content(&self) -> bool {
        matches!(
            self,
            Method::BasicPublish(_) | Method::BasicReturn(_) | Method::BasicDeliver(_) | Method::BasicGetOk(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use crate::sample::Random;

    #[test]
    fn what_cannot_be_understood_is_told_apart() {
        let decode = |bytes: &'static [u8]| Method::decode(&Bytes::from_static(bytes));
        let syntax = |class, method, error| Err(MethodError::Syntax { class, method, error });
        assert_eq!(decode(&[0, 60, 0]), syntax(0, 0, SyntaxError::Truncated));
        assert_eq!(decode(&[0, 60, 0, 99]), Err(MethodError::Unknown { class: 60, method: 99 }));
        assert_eq!(decode(&[0, 99, 0, 10]), Err(MethodError::Unknown { class: 99, method: 10 }));
        assert_eq!(decode(&[0, 60, 0, 80, 0]), syntax(60, 80, SyntaxError::Truncated));
        assert_eq!(decode(&[0, 90, 0, 10, 1]), syntax(90, 10, SyntaxError::Trailing));
        assert_eq!(decode(&[0, 60, 0, 30, 1, 0xff, 0]), syntax(60, 30, SyntaxError::MalformedUtf8));
        assert_eq!(decode(&[0, 90, 0, 10]), Ok(tx::Select {}.into()));
    }

    #[test]
    fn every_method_goes_there_and_back() {
        let mut random = Random::new(1);
        for method in (0..200).flat_map(|_| Method::one_of_each(&mut random)) {
            let mut out = BytesMut::new();
            method.encode(7, &mut out);
            let frame = frame::split(&mut out, 0).unwrap().unwrap();
            assert_eq!((frame.kind, frame.channel, out.len()), (FrameKind::Method, 7, 0));
            assert_eq!(Method::decode(&frame.payload), Ok(method));
        }
    }
}
