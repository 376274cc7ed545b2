// What operators' tools ask of a cluster: elections, reassignments, features, users' credentials, brokers' settings, and the
// quotas that are not about bytes.
package polymq.conformance;

import static polymq.conformance.Kit.bytes;
import static polymq.conformance.Kit.check;
import static polymq.conformance.Kit.fails;
import static polymq.conformance.Kit.get;
import static polymq.conformance.Kit.same;
import static polymq.conformance.Kit.until;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.admin.UserScramCredentialAlteration;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.BrokerIdNotRegisteredException;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.ThrottlingQuotaExceededException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;

final class OperationCases {
    static void register(Map<String, Main.Case> cases) {
        cases.put("elect_leaders", OperationCases::electLeaders);
        cases.put("reassignments", OperationCases::reassignments);
        cases.put("features", OperationCases::features);
        cases.put("quorum", OperationCases::quorum);
        cases.put("scram_users", OperationCases::scramUsers);
        cases.put("broker_settings", OperationCases::brokerSettings);
        cases.put("acls_without_authorizer", OperationCases::aclsWithoutAuthorizer);
        cases.put("unregister_broker", OperationCases::unregisterBroker);
        cases.put("quota_controller_mutations", OperationCases::mutationQuota);
        cases.put("quota_request_time", OperationCases::requestQuota);
    }

    private static int node(Kit kit) throws Exception {
        return get(kit.admin().describeCluster().nodes()).iterator().next().id();
    }

    private static void electLeaders(Kit kit) throws Exception {
        TopicPartition partition = new TopicPartition(kit.topic(1), 0), absent = new TopicPartition(kit.unique("absent"), 0);
        for (ElectionType type : ElectionType.values()) {
            Map<TopicPartition, Optional<Throwable>> told = get(kit.admin().electLeaders(type, Set.of(partition, absent)).partitions());
            same(ElectionNotNeededException.class, told.get(partition).get().getClass(), type + " of a partition that has its leader");
            same(UnknownTopicOrPartitionException.class, told.get(absent).get().getClass(), type + " of one that is not there");
        }
        // Asked for all partitions, only those are told of for which there was one.
        check(!get(kit.admin().electLeaders(ElectionType.PREFERRED, null).partitions()).containsKey(partition), "nothing to elect");
    }

    private static void reassignments(Kit kit) throws Exception {
        TopicPartition partition = new TopicPartition(kit.topic(1), 0);
        int node = node(kit);
        get(kit.admin().alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(node))))).all());
        same(Map.of(), get(kit.admin().listPartitionReassignments(Set.of(partition)).reassignments()), "what is under way");
        fails(InvalidReplicaAssignmentException.class, "to a broker that is not there", () -> get(kit.admin()
            .alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(node + 900))))).all()));
        fails(org.apache.kafka.common.errors.NoReassignmentInProgressException.class, "ending what is not under way",
            () -> get(kit.admin().alterPartitionReassignments(Map.of(partition, Optional.empty())).all()));
    }

    private static void features(Kit kit) throws Exception {
        var features = get(kit.admin().describeFeatures().featureMetadata());
        for (String name : List.of("group.version", "transaction.version", "share.version")) {
            check(features.supportedFeatures().containsKey(name), name + " is not told");
        }
        short level = features.finalizedFeatures().get("transaction.version").maxVersionLevel();
        same((short) 2, level, "transaction.version");
        UpdateFeaturesOptions dryRun = new UpdateFeaturesOptions().validateOnly(true);
        fails(org.apache.kafka.common.errors.InvalidUpdateVersionException.class, "a level that there is not", () -> get(kit.admin().updateFeatures(
            Map.of("transaction.version", new FeatureUpdate((short) 99, FeatureUpdate.UpgradeType.UPGRADE)), dryRun).all()));
    }

    private static void quorum(Kit kit) throws Exception {
        var quorum = get(kit.admin().describeMetadataQuorum().quorumInfo());
        check(quorum.voters().stream().anyMatch(voter -> voter.replicaId() == quorum.leaderId()), "the leader is a voter");
    }

    private static Map<String, Integer> iterations(Kit kit, String user) throws Exception {
        Map<String, Integer> found = new java.util.TreeMap<>();
        for (var described : get(kit.admin().describeUserScramCredentials().all()).values())
            if (described.name().equals(user))
                for (ScramCredentialInfo info : described.credentialInfos()) found.put(info.mechanism().name(), info.iterations());
        return found;
    }

    private static void scramUsers(Kit kit) throws Exception {
        String user = kit.unique("user");
        ScramCredentialInfo info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 5000);
        ScramCredentialInfo other = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 6000);
        // Apache Kafka takes one alteration of a user at a time.
        for (UserScramCredentialAlteration one : List.of(new UserScramCredentialUpsertion(user, info, "secret"),
                new UserScramCredentialUpsertion(user, other, "secret"))) get(kit.admin().alterUserScramCredentials(List.of(one)).all());
        until("both are told", () -> iterations(kit, user).equals(Map.of("SCRAM_SHA_256", 5000, "SCRAM_SHA_512", 6000)));
        get(kit.admin().alterUserScramCredentials(List.of(new UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256))).all());
        until("one is deleted", () -> iterations(kit, user).equals(Map.of("SCRAM_SHA_512", 6000)));
        fails(org.apache.kafka.common.errors.ResourceNotFoundException.class, "deleting it again", () -> get(kit.admin()
            .alterUserScramCredentials(List.of(new UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256))).all()));
        get(kit.admin().alterUserScramCredentials(List.of(new UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512))).all());
    }

    private static void alter(Kit kit, ConfigResource resource, String name, String value) throws Exception {
        AlterConfigOp.OpType type = value == null ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET;
        get(kit.admin().incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(name, value), type)))).all());
    }

    private static ConfigEntry described(Kit kit, ConfigResource resource, String name) throws Exception {
        return get(kit.admin().describeConfigs(List.of(resource)).all()).get(resource).get(name);
    }

    /** A setting of all brokers is that of topics which have none of their own. */
    private static void brokerSettings(Kit kit) throws Exception {
        ConfigResource brokers = new ConfigResource(ConfigResource.Type.BROKER, "");
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, kit.topic(1));
        alter(kit, brokers, "log.cleaner.delete.retention.ms", "86400001");
        try {
            until("the topic has it", () -> described(kit, topic, "delete.retention.ms").value().equals("86400001"));
            same(ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, described(kit, topic, "delete.retention.ms").source(), "source");
        } finally {
            alter(kit, brokers, "log.cleaner.delete.retention.ms", null);
        }
        until("it is gone", () -> described(kit, topic, "delete.retention.ms").value().equals("86400000"));
        fails(InvalidRequestException.class, "what cannot be changed while a broker runs",
            () -> { alter(kit, brokers, "broker.rack", "r"); return null; });
    }

    private static void aclsWithoutAuthorizer(Kit kit) throws Exception {
        fails(SecurityDisabledException.class, "describing ACLs where there is no authorizer",
            () -> get(kit.admin().describeAcls(org.apache.kafka.common.acl.AclBindingFilter.ANY).values()));
    }

    private static void unregisterBroker(Kit kit) throws Exception {
        fails(BrokerIdNotRegisteredException.class, "a broker that is not there", () -> get(kit.admin().unregisterBroker(976).all()));
    }

    private static void quota(Kit kit, String id, String name, Double value) throws Exception {
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, id));
        get(kit.admin().alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(new ClientQuotaAlteration.Op(name, value))))).all());
    }

    private static void mutationQuota(Kit kit) throws Exception {
        String id = kit.unique("client");
        quota(kit, id, "controller_mutation_rate", 1.0);
        CreateTopicsOptions once = new CreateTopicsOptions().retryOnQuotaViolation(false);
        try (Admin admin = Admin.create(kit.config("client.id", id))) {
            until("a client that makes too many partitions is told so", () -> {
                try {
                    get(admin.createTopics(List.of(new NewTopic(kit.unique("many"), 30, (short) 1)), once).all());
                    return false;
                } catch (java.util.concurrent.ExecutionException error) {
                    same(ThrottlingQuotaExceededException.class, error.getCause().getClass(), "the refusal");
                    check(((ThrottlingQuotaExceededException) error.getCause()).throttleTimeMs() > 0, "it is told for how long");
                    return true;
                }
            });
        }
        // Another client is not held up.
        get(kit.admin().createTopics(List.of(new NewTopic(kit.unique("other"), 1, (short) 1)), once).all());
        quota(kit, id, "controller_mutation_rate", null);
    }

    private static void requestQuota(Kit kit) throws Exception {
        String topic = kit.topic(1), id = kit.unique("client");
        quota(kit, id, "request_percentage", 0.01);
        KafkaProducer<byte[], byte[]> producer = kit.producer("client.id", id);
        until("the client is throttled", () -> {
            for (int i = 0; i < 20; i++) producer.send(new ProducerRecord<>(topic, 0, null, bytes("v"))).get();
            for (Metric metric : producer.metrics().values())
                if (metric.metricName().name().equals("produce-throttle-time-max") && (Double) metric.metricValue() > 0) return true;
            return false;
        });
        quota(kit, id, "request_percentage", null);
    }
}
