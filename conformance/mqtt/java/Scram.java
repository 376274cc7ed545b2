package polymq.conformance.mqtt;

import com.hivemq.client.mqtt.datatypes.MqttUtf8String;
import com.hivemq.client.mqtt.mqtt5.Mqtt5ClientConfig;
import com.hivemq.client.mqtt.mqtt5.auth.Mqtt5EnhancedAuthMechanism;
import com.hivemq.client.mqtt.mqtt5.message.auth.Mqtt5Auth;
import com.hivemq.client.mqtt.mqtt5.message.auth.Mqtt5AuthBuilder;
import com.hivemq.client.mqtt.mqtt5.message.auth.Mqtt5EnhancedAuth;
import com.hivemq.client.mqtt.mqtt5.message.auth.Mqtt5EnhancedAuthBuilder;
import com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5Connect;
import com.hivemq.client.mqtt.mqtt5.message.connect.connack.Mqtt5ConnAck;
import com.hivemq.client.mqtt.mqtt5.message.disconnect.Mqtt5Disconnect;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;

/** The client's side of SCRAM (RFC 5802, RFC 7677) for HiveMQ's client. Names without comma and equals sign only. */
final class Scram implements Mqtt5EnhancedAuthMechanism {
    private final String user;
    private final char[] password;
    private final String hash;
    private String nonce;
    private String bare;
    private byte[] verifier;
    /** Exchanges that the server has closed with its own proof. */
    int proved;

    /** `bits`: 256 or 512. */
    Scram(String user, String password, int bits) {
        this.user = user;
        this.password = password.toCharArray();
        this.hash = "SHA" + bits;
    }

    @Override
    public MqttUtf8String getMethod() {
        return MqttUtf8String.of("SCRAM-" + hash.replace("SHA", "SHA-"));
    }

    @Override
    public int getTimeout() {
        return Suite.SECONDS;
    }

    private byte[] first() {
        byte[] random = new byte[18];
        new SecureRandom().nextBytes(random);
        nonce = Base64.getEncoder().encodeToString(random);
        bare = "n=" + user + ",r=" + nonce;
        return ("n,," + bare).getBytes(StandardCharsets.UTF_8);
    }

    private byte[] mac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("Hmac" + hash);
        mac.init(new SecretKeySpec(key, mac.getAlgorithm()));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private byte[] last(String serverFirst) throws Exception {
        String salt = null;
        String theirs = null;
        int rounds = 0;
        for (String field : serverFirst.split(",")) {
            String value = field.substring(2);
            switch (field.charAt(0)) {
                case 'r' -> theirs = value;
                case 's' -> salt = value;
                case 'i' -> rounds = Integer.parseInt(value);
                default -> throw new IllegalStateException("unknown field " + field);
            }
        }
        if (theirs == null || !theirs.startsWith(nonce) || theirs.length() == nonce.length()) throw new IllegalStateException("nonce " + theirs);
        int bits = Integer.parseInt(hash.substring(3));
        byte[] salted = SecretKeyFactory.getInstance("PBKDF2WithHmac" + hash).generateSecret(new PBEKeySpec(password, Base64.getDecoder().decode(salt), rounds, bits)).getEncoded();
        String withoutProof = "c=biws,r=" + theirs;
        String signed = bare + "," + serverFirst + "," + withoutProof;
        byte[] proof = mac(salted, "Client Key");
        byte[] signature = mac(MessageDigest.getInstance("SHA-" + bits).digest(proof), signed);
        for (int at = 0; at < proof.length; at++) proof[at] ^= signature[at];
        verifier = mac(mac(salted, "Server Key"), signed);
        return (withoutProof + ",p=" + Base64.getEncoder().encodeToString(proof)).getBytes(StandardCharsets.UTF_8);
    }

    private static String text(Optional<ByteBuffer> data) {
        return data.map(bytes -> StandardCharsets.UTF_8.decode(bytes.duplicate()).toString()).orElse("");
    }

    private CompletableFuture<Boolean> verified(Optional<ByteBuffer> data) {
        boolean right = text(data).equals("v=" + Base64.getEncoder().encodeToString(verifier));
        if (right) proved++;
        return CompletableFuture.completedFuture(right);
    }

    @Override
    public CompletableFuture<Void> onAuth(Mqtt5ClientConfig client, Mqtt5Connect connect, Mqtt5EnhancedAuthBuilder builder) {
        builder.data(first());
        return CompletableFuture.completedFuture(null);
    }

    @Override
    public CompletableFuture<Void> onReAuth(Mqtt5ClientConfig client, Mqtt5AuthBuilder builder) {
        builder.data(first());
        return CompletableFuture.completedFuture(null);
    }

    @Override
    public CompletableFuture<Boolean> onContinue(Mqtt5ClientConfig client, Mqtt5Auth auth, Mqtt5AuthBuilder builder) {
        try {
            builder.data(last(text(auth.getData())));
            return CompletableFuture.completedFuture(true);
        } catch (Exception error) {
            return CompletableFuture.failedFuture(error);
        }
    }

    @Override
    public CompletableFuture<Boolean> onAuthSuccess(Mqtt5ClientConfig client, Mqtt5ConnAck answer) {
        return verified(answer.getEnhancedAuth().flatMap(Mqtt5EnhancedAuth::getData));
    }

    @Override
    public CompletableFuture<Boolean> onReAuthSuccess(Mqtt5ClientConfig client, Mqtt5Auth auth) {
        return verified(auth.getData());
    }

    @Override
    public void onAuthRejected(Mqtt5ClientConfig client, Mqtt5ConnAck answer) {}

    @Override
    public void onReAuthRejected(Mqtt5ClientConfig client, Mqtt5Disconnect disconnect) {}

    @Override
    public void onAuthError(Mqtt5ClientConfig client, Throwable cause) {}

    @Override
    public void onReAuthError(Mqtt5ClientConfig client, Throwable cause) {}
}
