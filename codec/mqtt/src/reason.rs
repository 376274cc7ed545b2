//! Reason codes (2.4), and which packet may bear which.

use bytes::{BufMut, BytesMut};

use crate::error::Error;
use crate::list::Entry;
use crate::property::Place;
use crate::reader::Reader;
use crate::{Sender, Version};

/// The table of codes: value, name, and the packets that may bear it.
macro_rules! reasons {
    ($($(#[$doc:meta])* $code:literal $name:ident: $($place:ident)|+;)*) => {
        /// Of Table 2-6. From 0x80 on they are failures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        #[repr(u8)]
        pub enum Reason {
            #[default]
            $($(#[$doc])* $name = $code,)*
        }

        impl Reason {
            /// Every one.
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// `None` for a code that the specification does not have.
            pub fn of(code: u8) -> Option<Reason> {
                Some(match code {
                    $($code => Reason::$name,)*
                    _ => return None,
                })
            }

            fn places(self) -> u16 {
                match self {
                    $(Reason::$name => $(Place::$place as u16)|+,)*
                }
            }
        }
    };
}

reasons! {
    /// Also "normal disconnection", and "granted QoS 0" in SUBACK.
    0x00 Success: Connack | Puback | Pubrec | Pubrel | Pubcomp | Suback | Unsuback | Disconnect | Auth;
    0x01 GrantedQoS1: Suback;
    0x02 GrantedQoS2: Suback;
    0x04 DisconnectWithWill: Disconnect;
    0x10 NoMatchingSubscribers: Puback | Pubrec;
    0x11 NoSubscriptionExisted: Unsuback;
    0x18 ContinueAuthentication: Auth;
    0x19 Reauthenticate: Auth;
    0x80 Unspecified: Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    0x81 MalformedPacket: Connack | Disconnect;
    0x82 ProtocolError: Connack | Disconnect;
    0x83 ImplementationSpecific: Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    0x84 UnsupportedProtocolVersion: Connack;
    0x85 ClientIdNotValid: Connack;
    0x86 BadUserNameOrPassword: Connack;
    0x87 NotAuthorized: Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    0x88 ServerUnavailable: Connack;
    0x89 ServerBusy: Connack | Disconnect;
    0x8a Banned: Connack;
    0x8b ServerShuttingDown: Disconnect;
    0x8c BadAuthenticationMethod: Connack | Disconnect;
    0x8d KeepAliveTimeout: Disconnect;
    0x8e SessionTakenOver: Disconnect;
    0x8f TopicFilterInvalid: Suback | Unsuback | Disconnect;
    0x90 TopicNameInvalid: Connack | Puback | Pubrec | Disconnect;
    0x91 PacketIdInUse: Puback | Pubrec | Suback | Unsuback;
    0x92 PacketIdNotFound: Pubrel | Pubcomp;
    0x93 ReceiveMaximumExceeded: Disconnect;
    0x94 TopicAliasInvalid: Disconnect;
    0x95 PacketTooLarge: Connack | Disconnect;
    0x96 MessageRateTooHigh: Disconnect;
    0x97 QuotaExceeded: Connack | Puback | Pubrec | Suback | Disconnect;
    0x98 AdministrativeAction: Disconnect;
    0x99 PayloadFormatInvalid: Connack | Puback | Pubrec | Disconnect;
    0x9a RetainNotSupported: Connack | Disconnect;
    0x9b QoSNotSupported: Connack | Disconnect;
    0x9c UseAnotherServer: Connack | Disconnect;
    0x9d ServerMoved: Connack | Disconnect;
    0x9e SharedSubscriptionsNotSupported: Suback | Disconnect;
    0x9f ConnectionRateExceeded: Connack | Disconnect;
    0xa0 MaximumConnectTime: Disconnect;
    0xa1 SubscriptionIdsNotSupported: Suback | Disconnect;
    0xa2 WildcardSubscriptionsNotSupported: Suback | Disconnect;
}

impl Reason {
    pub fn is_failure(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether `sender` may say it in the packet `place`. Who may say what matters in DISCONNECT (Table 3-10) and AUTH
    /// (3.15.2.1); everywhere else either the packet is one side's, or both may say all.
    pub fn may_stand_in(self, place: Place, sender: Sender) -> bool {
        use Reason::*;
        self.places() & place as u16 != 0
            && match (place, sender, self) {
                (Place::Disconnect, Sender::Client, reason) => matches!(
                    reason,
                    Success
                        | DisconnectWithWill
                        | Unspecified
                        | MalformedPacket
                        | ProtocolError
                        | ImplementationSpecific
                        | BadAuthenticationMethod
                        | TopicNameInvalid
                        | ReceiveMaximumExceeded
                        | TopicAliasInvalid
                        | PacketTooLarge
                        | MessageRateTooHigh
                        | QuotaExceeded
                        | AdministrativeAction
                        | PayloadFormatInvalid
                ),
                (Place::Disconnect, Sender::Server, reason) => reason != DisconnectWithWill,
                (Place::Auth, Sender::Client, reason) => reason != Success,
                (Place::Auth, Sender::Server, reason) => reason != Reauthenticate,
                _ => true,
            }
    }

    /// The code of a CONNACK of versions 3.1 and 3.1.1 (their Table 3.1); `None` for what they close the connection over.
    pub fn return_code(self) -> Option<u8> {
        Some(match self {
            Reason::Success => 0,
            Reason::UnsupportedProtocolVersion => 1,
            Reason::ClientIdNotValid => 2,
            Reason::ServerUnavailable | Reason::ServerBusy | Reason::UseAnotherServer | Reason::ServerMoved => 3,
            Reason::BadUserNameOrPassword => 4,
            Reason::NotAuthorized | Reason::Banned => 5,
            _ => return None,
        })
    }

    /// Of such a code.
    pub fn of_return_code(code: u8) -> Option<Reason> {
        Some(match code {
            0 => Reason::Success,
            1 => Reason::UnsupportedProtocolVersion,
            2 => Reason::ClientIdNotValid,
            3 => Reason::ServerUnavailable,
            4 => Reason::BadUserNameOrPassword,
            5 => Reason::NotAuthorized,
            _ => return None,
        })
    }

    pub(crate) fn read_in(reader: &mut Reader, place: Place, sender: Sender) -> Result<Reason, Error> {
        let reason = Reason::read(reader)?;
        reason.check(place, sender)?;
        Ok(reason)
    }

    pub(crate) fn check(self, place: Place, sender: Sender) -> Result<(), Error> {
        if self.may_stand_in(place, sender) {
            return Ok(());
        }
        Err(Error::protocol(statement(place), "a reason code that its sender may not use in this packet"))
    }

    /// Where `version` has no reason codes, only the granted QoS and 0x80 (3.9.3 of 3.1.1).
    pub(crate) fn granted(self, version: Version) -> u8 {
        if version < Version::Mqtt5 && self.is_failure() { 0x80 } else { self as u8 }
    }
}

/// The statement that says which codes a packet may have.
fn statement(place: Place) -> &'static str {
    match place {
        Place::Connack => "MQTT-3.2.2-8",
        Place::Puback => "MQTT-3.4.2-1",
        Place::Pubrec => "MQTT-3.5.2-1",
        Place::Pubrel => "MQTT-3.6.2-1",
        Place::Pubcomp => "MQTT-3.7.2-1",
        Place::Suback => "MQTT-3.9.3-2",
        Place::Unsuback => "MQTT-3.11.3-2",
        Place::Disconnect => "MQTT-3.14.2-1",
        Place::Auth => "MQTT-3.15.2-1",
        _ => "2.4",
    }
}

impl Entry for Reason {
    fn read(reader: &mut Reader) -> Result<Reason, Error> {
        Reason::of(reader.u8()?).ok_or(Error::protocol("2.4", "an unknown reason code"))
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u8(*self as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        assert_eq!(Reason::ALL.len(), 43);
        for code in 0..=255 {
            let found = Reason::of(code);
            assert_eq!(found.is_some(), Reason::ALL.iter().any(|reason| *reason as u8 == code));
            assert!(found.is_none_or(|reason| reason as u8 == code));
        }
    }

    #[test]
    fn packets_bear_what_their_tables_have() {
        let count = |place, sender| Reason::ALL.iter().filter(|reason| reason.may_stand_in(place, sender)).count();
        assert_eq!(count(Place::Connack, Sender::Server), 22);
        assert_eq!(count(Place::Puback, Sender::Client), 9);
        assert_eq!(count(Place::Pubrec, Sender::Server), 9);
        assert_eq!(count(Place::Pubrel, Sender::Server), 2);
        assert_eq!(count(Place::Suback, Sender::Server), 12);
        assert_eq!(count(Place::Unsuback, Sender::Server), 7);
        assert_eq!(count(Place::Auth, Sender::Server), 2);
        assert_eq!(count(Place::Auth, Sender::Client), 2);
        assert_eq!(count(Place::Publish, Sender::Client), 0);
    }

    #[test]
    fn return_codes_come_back() {
        for code in 0..=5 {
            assert_eq!(Reason::of_return_code(code).unwrap().return_code(), Some(code));
        }
        assert_eq!(Reason::of_return_code(6), None);
    }
}
