//! The requests that this gateway serves: THE table, and how a request gets from its bytes to its answer.
//!
//! What ApiVersions advertises is computed from the table, so that it cannot promise what is not there. A handler is
//! `async fn handle(&Gateway, &Context, Request) -> Response`; it never fails: errors are fields of the response.

use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec_kafka::api::Message;
use codec_kafka::frame::encode_response;
use codec_kafka::wire::Field;
use codec_kafka::{ApiKey, DecodeError, Frame, Reader, RequestHeader};
use core_rpc::Core;

use crate::state::Reserved;
use crate::state::security::Peer;
use crate::{Gateway, now_ms};

/// What a handler knows of a request besides its body.
#[derive(Clone, Debug)]
pub struct Context {
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
    /// Of the request's frame.
    pub request_bytes: usize,
    pub peer: Arc<Peer>,
}

impl Context {
    /// Who asks, for quotas.
    pub fn user(&self) -> User {
        User(self.peer.principal())
    }

    /// The client id; empty where there is none.
    pub fn client(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }
}

/// A client's user.
pub struct User(Arc<str>);

impl User {
    pub fn name(&self) -> &str {
        self.0.strip_prefix("User:").unwrap_or(&self.0)
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// It is answered.
    Frame(Frame),
    /// It is answered, and the memory of that is counted until it is sent.
    Held(Frame, Reserved),
    /// It asked for no answer.
    Nothing,
    /// The connection is closed.
    Close,
    /// It is answered, and then the client is not listened to for a while: it has used up its quota.
    Silenced(Box<Answer>, Duration),
}

impl Answer {
    /// After which the client is not listened to for so long, at least.
    fn silenced(self, time: Duration) -> Answer {
        match self {
            answer if time.is_zero() => answer,
            Answer::Silenced(answer, before) => Answer::Silenced(answer, before.max(time)),
            answer => Answer::Silenced(Box::new(answer), time),
        }
    }

    /// Whose memory is counted until it is sent.
    fn held(self, memory: Reserved) -> Answer {
        match self {
            Answer::Frame(frame) => Answer::Held(frame, memory),
            answer => answer,
        }
    }

    /// Bytes that are sent.
    fn bytes(&self) -> usize {
        match self {
            Answer::Frame(frame) | Answer::Held(frame, _) => frame.len(),
            Answer::Silenced(answer, _) => answer.bytes(),
            Answer::Nothing | Answer::Close => 0,
        }
    }
}

/// A request on its way to its answer.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What handlers return: a response, or something that knows when there is none.
pub trait Reply {
    fn answer(self, context: &Context) -> Answer;

    /// How many error codes it has.
    fn errors(&self) -> usize;

    /// Makes the time for which it says that the client is not listened to at least this.
    fn raise_throttle_time_ms(&mut self, time_ms: i32);
}

impl<M: Message> Reply for M {
    fn answer(self, context: &Context) -> Answer {
        match encode_response(&self, context.version, context.correlation_id) {
            Ok(frame) => Answer::Frame(frame),
            Err(error) => {
                tracing::error!(api = ?M::API, version = context.version, %error, "a response cannot be encoded");
                Answer::Close
            }
        }
    }

    fn errors(&self) -> usize {
        Field::errors(self)
    }

    fn raise_throttle_time_ms(&mut self, time_ms: i32) {
        Field::raise_throttle_time_ms(self, time_ms);
    }
}

/// A reply after which the client is not listened to for a while (KIP-219): as long as it is told in the response.
pub struct Throttled<R> {
    pub reply: R,
    pub silence: Duration,
}

impl<R: Reply> Reply for Throttled<R> {
    fn answer(self, context: &Context) -> Answer {
        self.reply.answer(context).silenced(self.silence)
    }

    fn errors(&self) -> usize {
        self.reply.errors()
    }

    fn raise_throttle_time_ms(&mut self, time_ms: i32) {
        self.reply.raise_throttle_time_ms(time_ms);
    }
}

/// A reply with records, whose memory is counted until it is sent.
pub struct Held<R> {
    pub reply: R,
    pub memory: Reserved,
}

impl<R: Reply> Reply for Held<R> {
    fn answer(self, context: &Context) -> Answer {
        self.reply.answer(context).held(self.memory)
    }

    fn errors(&self) -> usize {
        self.reply.errors()
    }

    fn raise_throttle_time_ms(&mut self, time_ms: i32) {
        self.reply.raise_throttle_time_ms(time_ms);
    }
}

/// A silence as responses tell it.
pub fn throttle_time_ms(silence: Duration) -> i32 {
    // Rounded up: a millisecond too long is better than a request that comes too early.
    i32::try_from(silence.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// One line of the table.
#[derive(Debug)]
pub struct Served {
    pub api: ApiKey,
    /// The versions whose requests are answered.
    pub versions: RangeInclusive<i16>,
}

impl Served {
    /// The versions that ApiVersions tells. Produce is said to begin at 0, although only 3 and later are answered:
    /// librdkafka stops compressing when old versions are missing (KAFKA-18659), and Kafka does the same for it.
    pub fn advertised(&self) -> RangeInclusive<i16> {
        match self.api {
            ApiKey::Produce => 0..=*self.versions.end(),
            _ => self.versions.clone(),
        }
    }
}

macro_rules! table {
    ($($api:ident $versions:expr => $module:ident;)*) => {
        $(mod $module;)*

        /// All requests that are served.
        pub const SERVED: &[Served] = &[$(Served { api: ApiKey::$api, versions: $versions }),*];

        fn dispatch<C: Core>(
            gateway: &Arc<Gateway<C>>,
            context: Context,
            place: usize,
            api: ApiKey,
            body: &mut Reader,
        ) -> Result<Begun, DecodeError> {
            match api {
                $(ApiKey::$api => {
                    let request = Message::decode(body, context.version)?;
                    let early = may_run_early(gateway, &request);
                    let gateway = gateway.clone();
                    let answering = Box::pin(async move {
                        let handling = $module::handle(&gateway, &context, request);
                        let (reply, time) = timed(gateway.quotas.limits_requests(), handling).await;
                        finish(&gateway, &context, place, reply, time)
                    });
                    Ok(Begun { answering, early })
                })*
                _ => Err(DecodeError::UnsupportedVersion { api, version: context.version }),
            }
        }
    };
}

table! {
    Produce 3..=13 => produce;
    Fetch 4..=18 => fetch;
    ListOffsets 1..=10 => list_offsets;
    Metadata 0..=13 => metadata;
    OffsetCommit 2..=9 => offset_commit;
    OffsetFetch 1..=9 => offset_fetch;
    FindCoordinator 0..=6 => find_coordinator;
    JoinGroup 0..=9 => join_group;
    Heartbeat 0..=4 => heartbeat;
    LeaveGroup 0..=5 => leave_group;
    SyncGroup 0..=5 => sync_group;
    DescribeGroups 0..=6 => describe_groups;
    ListGroups 0..=5 => list_groups;
    SaslHandshake 0..=1 => sasl_handshake;
    ApiVersions 0..=4 => api_versions;
    CreateTopics 2..=7 => create_topics;
    DeleteTopics 1..=6 => delete_topics;
    DeleteRecords 0..=2 => delete_records;
    InitProducerId 0..=5 => init_producer_id;
    OffsetForLeaderEpoch 2..=4 => offset_for_leader_epoch;
    AddPartitionsToTxn 0..=5 => add_partitions_to_txn;
    AddOffsetsToTxn 0..=4 => add_offsets_to_txn;
    EndTxn 0..=5 => end_txn;
    WriteTxnMarkers 1..=1 => write_txn_markers;
    TxnOffsetCommit 0..=5 => txn_offset_commit;
    DescribeAcls 1..=3 => describe_acls;
    CreateAcls 1..=3 => create_acls;
    DeleteAcls 1..=3 => delete_acls;
    DescribeConfigs 1..=4 => describe_configs;
    AlterConfigs 0..=2 => alter_configs;
    AlterReplicaLogDirs 1..=2 => alter_replica_log_dirs;
    DescribeLogDirs 1..=4 => describe_log_dirs;
    SaslAuthenticate 0..=2 => sasl_authenticate;
    CreatePartitions 0..=3 => create_partitions;
    DeleteGroups 0..=2 => delete_groups;
    ElectLeaders 0..=2 => elect_leaders;
    IncrementalAlterConfigs 0..=1 => incremental_alter_configs;
    AlterPartitionReassignments 0..=1 => alter_partition_reassignments;
    ListPartitionReassignments 0..=0 => list_partition_reassignments;
    OffsetDelete 0..=0 => offset_delete;
    DescribeClientQuotas 0..=1 => describe_client_quotas;
    AlterClientQuotas 0..=1 => alter_client_quotas;
    DescribeUserScramCredentials 0..=0 => describe_user_scram_credentials;
    AlterUserScramCredentials 0..=0 => alter_user_scram_credentials;
    DescribeQuorum 0..=2 => describe_quorum;
    UpdateFeatures 0..=2 => update_features;
    DescribeCluster 0..=2 => describe_cluster;
    DescribeProducers 0..=0 => describe_producers;
    UnregisterBroker 0..=0 => unregister_broker;
    DescribeTransactions 0..=0 => describe_transactions;
    ListTransactions 0..=2 => list_transactions;
    ConsumerGroupHeartbeat 0..=1 => consumer_group_heartbeat;
    ConsumerGroupDescribe 0..=1 => consumer_group_describe;
    ListConfigResources 0..=1 => list_config_resources;
    DescribeTopicPartitions 0..=0 => describe_topic_partitions;
    ShareGroupHeartbeat 1..=1 => share_group_heartbeat;
    ShareGroupDescribe 1..=1 => share_group_describe;
    ShareFetch 1..=1 => share_fetch;
    ShareAcknowledge 1..=1 => share_acknowledge;
    DescribeShareGroupOffsets 0..=0 => describe_share_group_offsets;
    AlterShareGroupOffsets 0..=0 => alter_share_group_offsets;
    DeleteShareGroupOffsets 0..=0 => delete_share_group_offsets;
}

/// A request that cannot even be begun. The connection has to be closed, as Kafka closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    #[error("the request cannot be read: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("API {key} version {version} is not served")]
    NotServed { key: i16, version: i16 },
    #[error("the client's authentication has run out")]
    Overdue,
}

/// A request that has been read, and its answer to be.
pub struct Begun {
    pub answering: Answering,
    /// Whether it may run beside the requests before it (answers are sent in order all the same). Only appends may:
    /// their order is that in which they are begun, and they hold no memory but their own bytes.
    pub early: bool,
}

/// Reads a request's frame. What the request asks for is begun when the answer is first polled.
pub fn begin<C: Core>(gateway: &Arc<Gateway<C>>, peer: &Arc<Peer>, frame: bytes::Bytes) -> Result<Begun, Unanswerable> {
    let request_bytes = frame.len();
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader)?;
    let RequestHeader { api_key: key, api_version: version, correlation_id, client_id } = header;
    let not_served = Unanswerable::NotServed { key, version };
    let api = ApiKey::from_i16(key).ok_or(not_served)?;
    let place = SERVED.iter().position(|served| served.api == api).ok_or(not_served)?;
    let served = &SERVED[place];
    gateway.counts.asked(place, request_bytes);
    let mut context = Context { version, correlation_id, client_id, request_bytes, peer: peer.clone() };
    if !served.versions.contains(&version) {
        if api != ApiKey::ApiVersions {
            return Err(not_served);
        }
        // So that a newer client learns what it can use: answered in the oldest version.
        context.version = 0;
        let answer = api_versions::unsupported().answer(&context);
        return Ok(Begun { answering: Box::pin(std::future::ready(answer)), early: false });
    }
    if peer.is_overdue(api) {
        return Err(Unanswerable::Overdue);
    }
    let mut begun = dispatch(gateway, context, place, api, &mut reader)?;
    if !peer.is_authenticated() {
        begun = Begun { answering: guarded(peer.clone(), api, begun.answering), early: false };
    }
    Ok(begun)
}

/// Takes the time that a handler's own work takes, not that for which it waits, if anybody asks for it.
async fn timed<F: Future>(is_asked: bool, handling: F) -> (F::Output, Duration) {
    let mut handling = std::pin::pin!(handling);
    let mut time = Duration::ZERO;
    let polled = std::future::poll_fn(|context| {
        let begun = is_asked.then(Instant::now);
        let polled = handling.as_mut().poll(context);
        time += begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        polled
    });
    (polled.await, time)
}

/// Makes the answer, counts it, and silences a client that has taken too much of the gateway's time (KIP-124).
fn finish<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    place: usize,
    mut reply: impl Reply,
    time: Duration,
) -> Answer {
    let silence = match time.is_zero() {
        true => Duration::ZERO,
        false => gateway.quotas.took(context.user().name(), context.client(), time, now_ms()),
    };
    if !silence.is_zero() {
        reply.raise_throttle_time_ms(throttle_time_ms(silence));
    }
    let errors = reply.errors();
    let answer = reply.answer(context).silenced(silence);
    gateway.counts.answered(place, answer.bytes(), errors);
    answer
}

/// Appends may run beside the requests before them, if they are appended at once.
fn may_run_early<C: Core, M: Message + 'static>(gateway: &Gateway<C>, request: &M) -> bool {
    let request: &dyn std::any::Any = request;
    request.downcast_ref().is_some_and(|request| produce::is_admitted(gateway, request))
}

/// Closes the connection of a client that asks for something before it has said who it is. Checked when it is the
/// request's turn: what was sent before it may be the last step of the authentication.
fn guarded(peer: Arc<Peer>, api: ApiKey, answering: Answering) -> Answering {
    Box::pin(async move { if peer.may_ask(api) { answering.await } else { Answer::Close } })
}
