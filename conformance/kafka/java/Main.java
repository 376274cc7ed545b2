// Apache's Java client against a broker: `Main BOOTSTRAP [CASE...]`. One source for kafka-clients 3.x and 4.x.
//
// The system property `conformance.rooms` says which cases there are: some of the names in ROOMS, with commas between.
// Prints one line per case: `ok CASE MILLIS`, `FAIL CASE reason` or `skip CASE reason`; exits 1 if any failed.
package polymq.conformance;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

public final class Main {
    /** A case throws this when the client cannot do what the case asks, or the broker refuses an optional feature. */
    static final class Skip extends RuntimeException {
        Skip(String reason) { super(reason); }
    }

    interface Case { void run(Kit kit) throws Exception; }

    interface Room { void register(Map<String, Case> cases); }

    private static final Map<String, Room> ROOMS = Map.of(
        "base", cases -> {
            DataCases.register(cases);
            GroupCases.register(cases);
            AdminCases.register(cases);
            ErrorCases.register(cases);
        },
        "transactions", TransactionCases::register,
        "groups", ConsumerProtocolCases::register,
        "topics", TopicCases::register,
        "operations", OperationCases::register,
        "share", cases -> only4("polymq.conformance.ShareCases", cases));

    /** Cases whose classes only the newest client has: java/newest/. */
    private static void only4(String name, Map<String, Case> cases) {
        try {
            Class.forName(name).getDeclaredMethod("register", Map.class).invoke(null, cases);
        } catch (ReflectiveOperationException absent) {
            throw new IllegalStateException(name + " is not compiled for this client", absent);
        }
    }

    public static void main(String[] args) {
        Map<String, Case> cases = new LinkedHashMap<>();
        for (String room : System.getProperty("conformance.rooms", "base").split(",")) {
            if (!ROOMS.containsKey(room)) throw new IllegalArgumentException("no room " + room);
            ROOMS.get(room).register(cases);
        }

        List<String> wanted = List.of(args).subList(1, args.length);
        boolean failed = false;
        for (Map.Entry<String, Case> entry : cases.entrySet()) {
            if (!wanted.isEmpty() && !wanted.contains(entry.getKey())) continue;
            long start = System.nanoTime();
            try (Kit kit = new Kit(args[0], entry.getKey())) {
                entry.getValue().run(kit);
                System.out.println("ok " + entry.getKey() + " " + (System.nanoTime() - start) / 1_000_000);
            } catch (Skip skip) {
                System.out.println("skip " + entry.getKey() + " " + skip.getMessage());
            } catch (Throwable error) {
                failed = true;
                System.out.println("FAIL " + entry.getKey() + " " + describe(error));
                if (System.getenv("CONFORMANCE_TRACE") != null) error.printStackTrace();
            }
            System.out.flush();
        }
        System.exit(failed ? 1 : 0);
    }

    /** The innermost reason, on one line, with the line of the case that met it. */
    private static String describe(Throwable error) {
        Throwable cause = error;
        while ((cause instanceof ExecutionException || cause instanceof CompletionException) && cause.getCause() != null) {
            cause = cause.getCause();
        }
        String where = "";
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("polymq.conformance") && !frame.getClassName().endsWith("Kit")) {
                where = " (" + frame.getFileName() + ":" + frame.getLineNumber() + ")";
                break;
            }
        }
        String message = cause.getMessage() == null ? "" : ": " + cause.getMessage().replaceAll("\\s+", " ");
        return cause.getClass().getSimpleName() + message + where;
    }
}
