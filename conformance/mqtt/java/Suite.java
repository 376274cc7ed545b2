package polymq.conformance.mqtt;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/** What the Java suites share: `ok CASE MILLIS` or `FAIL CASE reason` for each case, and lists that fill up. */
final class Suite {
    interface Case {
        void run(String topic) throws Exception;
    }

    static final int SECONDS = 20;
    private static String[] addresses;
    private static int dealt;

    /** HOST:PORT for a connection; of several gateways each in turn. */
    static synchronized String[] address() {
        return addresses[dealt++ % addresses.length].split(":");
    }

    private final Map<String, Case> cases = new LinkedHashMap<>();

    void add(String name, Case one) {
        cases.put(name, one);
    }

    void run(String client, String[] arguments) {
        addresses = arguments[0].split(",");
        Set<String> wanted = Set.copyOf(List.of(arguments).subList(1, arguments.length));
        boolean failed = false;
        for (Map.Entry<String, Case> each : cases.entrySet()) {
            if (!wanted.isEmpty() && !wanted.contains(each.getKey())) continue;
            long started = System.nanoTime();
            try {
                each.getValue().run(client + "-" + ProcessHandle.current().pid() + "-" + each.getKey());
                System.out.println("ok " + each.getKey() + " " + (System.nanoTime() - started) / 1_000_000);
            } catch (Throwable error) {
                failed = true;
                System.out.println("FAIL " + each.getKey() + " " + String.valueOf(error).replaceAll("\\s+", " "));
            }
        }
        System.out.flush();
        Runtime.getRuntime().halt(failed ? 1 : 0);
    }

    static void same(Object wanted, Object got) {
        if (!String.valueOf(wanted).equals(String.valueOf(got))) throw new AssertionError("wanted " + wanted + ", got " + got);
    }

    static List<String> numbers(int count) {
        return IntStream.range(0, count).mapToObj(String::valueOf).toList();
    }

    /** Texts as they come. */
    static final class Inbox {
        private final List<String> texts = new ArrayList<>();

        synchronized void add(String text) {
            texts.add(text);
            notifyAll();
        }

        synchronized List<String> await(int count) throws InterruptedException {
            long end = System.currentTimeMillis() + SECONDS * 1000L;
            while (texts.size() < count) {
                long left = end - System.currentTimeMillis();
                if (left <= 0) throw new AssertionError(texts.size() + " of " + count + " messages within " + SECONDS + " s");
                wait(left);
            }
            return new ArrayList<>(texts);
        }
    }
}
