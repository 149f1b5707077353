import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;

/** What a run has cost this process, on one line. */
class Report {
    private final long begunNs = System.nanoTime();
    private final long begunCpuNs = cpuNs();

    static long cpuNs() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    void print(String who, String query, long keys, long rows, String more) throws Exception {
        double tookS = (System.nanoTime() - begunNs) / 1e9;
        double cpuNs = cpuNs() - begunCpuNs;
        long peakKb = Files.readAllLines(Path.of("/proc/self/status")).stream().filter(l -> l.startsWith("VmHWM:"))
            .map(l -> l.replaceAll("[^0-9]", "")).mapToLong(Long::parseLong).findFirst().orElse(0);
        System.out.printf("%s %s keys=%d rows=%d rows/s=%.0f cpu_ns/row=%.1f rows/s/core=%.0f peak_rss_MiB=%d%s%n",
            who, query, keys, rows, rows / tookS, cpuNs / rows, rows * 1e9 / cpuNs, peakKb / 1024, more);
    }
}
