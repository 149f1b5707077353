import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Scenarios with the Java clients of Apache Kafka. `java Scenarios NAME BOOTSTRAP [OPTION=VALUE ...]` runs one; it passes where it ends with 0. A
 * line on stdout that begins with `@` asks for the broker to be killed or started, see Support.ask.
 */
public final class Scenarios {
    interface Scenario {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Scenario> scenarios = new LinkedHashMap<>();
        scenarios.put("compressions", Records::compressions);
        scenarios.put("idempotence", Records::idempotence);
        scenarios.put("sizes", Records::sizes);
        scenarios.put("positions", Records::positions);
        scenarios.put("restarts", Records::restarts);
        scenarios.put("eager", Groups::eager);
        scenarios.put("cooperative", Groups::cooperative);
        scenarios.put("static_members", Groups::staticMembers);
        scenarios.put("generations", Groups::generations);
        scenarios.put("topics", Admins::topics);
        scenarios.put("settings", Admins::settings);
        scenarios.put("offsets", Admins::offsets);
        scenarios.put("group_tools", Admins::groupTools);
        scenarios.put("commit_and_abort", Transactions::commitAndAbort);
        scenarios.put("fencing", Transactions::fencing);
        scenarios.put("zombie_offsets", Transactions::zombieOffsets);
        scenarios.put("copy", Transactions::copy);
        scenarios.put("copy_prepare", Transactions::copyPrepare);
        scenarios.put("copy_check", Transactions::copyCheck);
        Support.begin(arguments);
        Scenario scenario = scenarios.get(Support.scenario);
        if (scenario == null) {
            throw new IllegalArgumentException("no scenario " + Support.scenario);
        }
        scenario.run();
        System.out.flush();
        // No waiting for clients that the scenario left open.
        Runtime.getRuntime().halt(0);
    }
}
