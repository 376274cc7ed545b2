import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.Map;
import org.apache.kafka.tools.ConsumerPerformance;

/** Reads a topic from its beginning with the official kafka-consumer-perf-test, in a group, as a late consumer would. */
final class CatchUp {
    /** `catch-up topic= records=`: the tool's own figures, its time in the group's rebalance left out. */
    static String run(Map<String, String> options) throws Exception {
        long records = Long.parseLong(Load.required(options, "records"));
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        PrintStream usual = System.out;
        System.setOut(new PrintStream(output, true));
        try {
            ConsumerPerformance.main(new String[] {
                "--bootstrap-server", Load.required(options, "address"), "--topic", Load.required(options, "topic"),
                "--messages", String.valueOf(records), "--timeout", "30000", "--hide-header"});
        } finally {
            System.setOut(usual);
        }
        // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
        String last = output.toString().trim();
        last = last.substring(last.lastIndexOf('\n') + 1);
        String[] fields = last.split(", *");
        if (fields.length < 10) throw new IllegalStateException("kafka-consumer-perf-test said: " + output);
        long read = Long.parseLong(fields[4]);
        if (read < records) throw new IllegalStateException("read " + read + " of " + records);
        return String.format("{\"records\": %d, \"seconds\": %.6f}", read, Long.parseLong(fields[7]) / 1e3);
    }
}
