//! The table of APIs: number, messages, versions.
//!
//! The versions are those that this crate can code, which are those that a released Kafka 4.1 broker answers. What a
//! gateway supports is the gateway's table, and may be less.

use std::ops::RangeInclusive;

use crate::messages::*;
use crate::wire::{DecodeError, EncodeError, Field, Format, Reader, Writer};

/// No version of this API is flexible.
pub const NEVER: i16 = i16::MAX;

/// Calls a macro with the whole table. A line reads: API = number, request, response, versions, flexible from.
#[macro_export]
macro_rules! for_each_api {
    ($callback:ident) => {
        $callback! {
            Produce = 0, ProduceRequest, ProduceResponse, 3..=13, 9;
            Fetch = 1, FetchRequest, FetchResponse, 4..=18, 12;
            ListOffsets = 2, ListOffsetsRequest, ListOffsetsResponse, 1..=10, 6;
            Metadata = 3, MetadataRequest, MetadataResponse, 0..=13, 9;
            OffsetCommit = 8, OffsetCommitRequest, OffsetCommitResponse, 2..=9, 8;
            OffsetFetch = 9, OffsetFetchRequest, OffsetFetchResponse, 1..=9, 6;
            FindCoordinator = 10, FindCoordinatorRequest, FindCoordinatorResponse, 0..=6, 3;
            JoinGroup = 11, JoinGroupRequest, JoinGroupResponse, 0..=9, 6;
            Heartbeat = 12, HeartbeatRequest, HeartbeatResponse, 0..=4, 4;
            LeaveGroup = 13, LeaveGroupRequest, LeaveGroupResponse, 0..=5, 4;
            SyncGroup = 14, SyncGroupRequest, SyncGroupResponse, 0..=5, 4;
            DescribeGroups = 15, DescribeGroupsRequest, DescribeGroupsResponse, 0..=6, 5;
            ListGroups = 16, ListGroupsRequest, ListGroupsResponse, 0..=5, 3;
            SaslHandshake = 17, SaslHandshakeRequest, SaslHandshakeResponse, 0..=1, $crate::api::NEVER;
            ApiVersions = 18, ApiVersionsRequest, ApiVersionsResponse, 0..=4, 3;
            CreateTopics = 19, CreateTopicsRequest, CreateTopicsResponse, 2..=7, 5;
            DeleteTopics = 20, DeleteTopicsRequest, DeleteTopicsResponse, 1..=6, 4;
            DeleteRecords = 21, DeleteRecordsRequest, DeleteRecordsResponse, 0..=2, 2;
            InitProducerId = 22, InitProducerIdRequest, InitProducerIdResponse, 0..=5, 2;
            OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, 2..=4, 4;
            AddPartitionsToTxn = 24, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, 0..=5, 3;
            AddOffsetsToTxn = 25, AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, 0..=4, 3;
            EndTxn = 26, EndTxnRequest, EndTxnResponse, 0..=5, 3;
            WriteTxnMarkers = 27, WriteTxnMarkersRequest, WriteTxnMarkersResponse, 1..=1, 1;
            TxnOffsetCommit = 28, TxnOffsetCommitRequest, TxnOffsetCommitResponse, 0..=5, 3;
            DescribeAcls = 29, DescribeAclsRequest, DescribeAclsResponse, 1..=3, 2;
            CreateAcls = 30, CreateAclsRequest, CreateAclsResponse, 1..=3, 2;
            DeleteAcls = 31, DeleteAclsRequest, DeleteAclsResponse, 1..=3, 2;
            DescribeConfigs = 32, DescribeConfigsRequest, DescribeConfigsResponse, 1..=4, 4;
            AlterConfigs = 33, AlterConfigsRequest, AlterConfigsResponse, 0..=2, 2;
            AlterReplicaLogDirs = 34, AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, 1..=2, 2;
            DescribeLogDirs = 35, DescribeLogDirsRequest, DescribeLogDirsResponse, 1..=4, 2;
            SaslAuthenticate = 36, SaslAuthenticateRequest, SaslAuthenticateResponse, 0..=2, 2;
            CreatePartitions = 37, CreatePartitionsRequest, CreatePartitionsResponse, 0..=3, 2;
            DeleteGroups = 42, DeleteGroupsRequest, DeleteGroupsResponse, 0..=2, 2;
            ElectLeaders = 43, ElectLeadersRequest, ElectLeadersResponse, 0..=2, 2;
            IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, 0..=1, 1;
            AlterPartitionReassignments = 45, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, 0..=1, 0;
            ListPartitionReassignments = 46, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, 0..=0, 0;
            OffsetDelete = 47, OffsetDeleteRequest, OffsetDeleteResponse, 0..=0, $crate::api::NEVER;
            DescribeClientQuotas = 48, DescribeClientQuotasRequest, DescribeClientQuotasResponse, 0..=1, 1;
            AlterClientQuotas = 49, AlterClientQuotasRequest, AlterClientQuotasResponse, 0..=1, 1;
            DescribeUserScramCredentials = 50, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, 0..=0, 0;
            AlterUserScramCredentials = 51, AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, 0..=0, 0;
            DescribeQuorum = 55, DescribeQuorumRequest, DescribeQuorumResponse, 0..=2, 0;
            UpdateFeatures = 57, UpdateFeaturesRequest, UpdateFeaturesResponse, 0..=2, 0;
            DescribeCluster = 60, DescribeClusterRequest, DescribeClusterResponse, 0..=2, 0;
            DescribeProducers = 61, DescribeProducersRequest, DescribeProducersResponse, 0..=0, 0;
            UnregisterBroker = 64, UnregisterBrokerRequest, UnregisterBrokerResponse, 0..=0, 0;
            DescribeTransactions = 65, DescribeTransactionsRequest, DescribeTransactionsResponse, 0..=0, 0;
            ListTransactions = 66, ListTransactionsRequest, ListTransactionsResponse, 0..=2, 0;
            ConsumerGroupHeartbeat = 68, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, 0..=1, 0;
            ConsumerGroupDescribe = 69, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, 0..=1, 0;
            GetTelemetrySubscriptions = 71, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, 0..=0, 0;
            PushTelemetry = 72, PushTelemetryRequest, PushTelemetryResponse, 0..=0, 0;
            ListConfigResources = 74, ListConfigResourcesRequest, ListConfigResourcesResponse, 0..=1, 0;
            DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, 0..=0, 0;
            ShareGroupHeartbeat = 76, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, 1..=1, 0;
            ShareGroupDescribe = 77, ShareGroupDescribeRequest, ShareGroupDescribeResponse, 1..=1, 0;
            ShareFetch = 78, ShareFetchRequest, ShareFetchResponse, 1..=1, 0;
            ShareAcknowledge = 79, ShareAcknowledgeRequest, ShareAcknowledgeResponse, 1..=1, 0;
            DescribeShareGroupOffsets = 90, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, 0..=0, 0;
            AlterShareGroupOffsets = 91, AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, 0..=0, 0;
            DeleteShareGroupOffsets = 92, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, 0..=0, 0;
        }
    };
}

macro_rules! define_apis {
    ($($api:ident = $key:literal, $request:ident, $response:ident, $versions:expr, $flexible:expr;)*) => {
        /// An API by its number on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("[`", stringify!($request), "`], [`", stringify!($response), "`]")] $api = $key,)*
        }

        impl ApiKey {
            /// All APIs, by ascending number.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$api),*];

            /// The API with this number.
            pub fn from_i16(key: i16) -> Option<ApiKey> {
                match key {
                    $($key => Some(ApiKey::$api),)*
                    _ => None,
                }
            }

            /// The versions that this crate can code.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(ApiKey::$api => $versions,)*
                }
            }

            /// The first version with the flexible encoding, or [`NEVER`].
            pub fn flexible_from(self) -> i16 {
                match self {
                    $(ApiKey::$api => $flexible,)*
                }
            }
        }

        $(
            define_apis!(@message $api $request);
            define_apis!(@message $api $response);

            impl Request for $request {
                type Response = $response;
            }
        )*
    };
    (@message $api:ident $message:ident) => {
        impl Message for $message {
            const API: ApiKey = ApiKey::$api;
        }

        impl $message {
            /// Reads the body. Bytes after it are left in the reader.
            pub fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
                Message::decode(reader, version)
            }

            /// Writes the body. An error (an unknown version, a string too long) is reported by [`Writer::finish`].
            pub fn encode(&self, writer: &mut Writer, version: i16) {
                Message::encode(self, writer, version);
            }
        }
    };
}

for_each_api!(define_apis);

impl ApiKey {
    /// Whether messages of this version have the flexible encoding.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    fn format(self, version: i16) -> Option<Format> {
        let format = Format { version, flexible: self.is_flexible(version), nullable: false };
        self.versions().contains(&version).then_some(format)
    }
}

/// The body of a request or of a response.
pub trait Message: Field + Default {
    /// The API that it belongs to.
    const API: ApiKey;

    /// Reads the body. Bytes after it are left in the reader.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let api = Self::API;
        let format = api.format(version).ok_or(DecodeError::UnsupportedVersion { api, version })?;
        Self::read(reader, format)
    }

    /// Writes the body. An error (an unknown version, a string too long) is reported by [`Writer::finish`].
    fn encode(&self, writer: &mut Writer, version: i16) {
        let api = Self::API;
        match api.format(version) {
            Some(format) => self.write(writer, format),
            None => writer.fail(EncodeError::UnsupportedVersion { api, version }),
        }
    }
}

/// The body of a request.
pub trait Request: Message {
    /// What it is answered with.
    type Response: Message;
}
