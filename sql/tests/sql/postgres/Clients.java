// What pgjdbc does with the sample's rows. Usage: java -cp postgresql.jar Clients.java PORT. Prints `done` where all is right.

import java.math.BigDecimal;
import java.sql.*;
import java.util.*;

public class Clients {
    static void same(Object got, Object expected) {
        if (!Objects.equals(got, expected)) throw new AssertionError(got + " is not " + expected);
    }

    /** The rows, columns with bars between. */
    static List<String> rows(ResultSet result, int... columns) throws SQLException {
        List<String> rows = new ArrayList<>();
        int all = result.getMetaData().getColumnCount();
        while (result.next()) {
            StringJoiner row = new StringJoiner("|");
            if (columns.length == 0) for (int i = 1; i <= all; i++) row.add(result.getString(i));
            for (int column : columns) row.add(result.getString(column));
            rows.add(row.toString());
        }
        return rows;
    }

    static String state(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.executeQuery(sql);
            return "none";
        } catch (SQLException e) {
            return e.getSQLState();
        }
    }

    static void queries(Connection c, boolean simple) throws Exception {
        same(rows(c.createStatement().executeQuery("SELECT count(*) FROM logs")), List.of("6"));
        PreparedStatement p = c.prepareStatement(
            "SELECT message, timestamp, attributes FROM logs WHERE timestamp > ? AND service = ? ORDER BY timestamp LIMIT ?");
        for (int i = 0; i < 8; i++) { // The driver turns to named statements and binary on the way.
            p.setTimestamp(1, new Timestamp(1767322800000L + i % 2));
            p.setString(2, "web");
            p.setInt(3, 2);
            ResultSet r = p.executeQuery();
            r.next();
            same(r.getString(1), "GET /x 500");
            same(r.getTimestamp(2).getTime(), 1767322830500L);
            same(r.getString(3).contains("\"/x\""), true);
        }
        p = c.prepareStatement("SELECT ?, ?, ?, ?, ?, ?::bigint");
        p.setInt(1, 1);
        p.setLong(2, 2);
        p.setDouble(3, 1.5);
        p.setString(4, "x");
        p.setBoolean(5, true);
        p.setNull(6, Types.BIGINT);
        same(rows(p.executeQuery()), List.of("1|2|1.5|x|t|null"));
        p = c.prepareStatement("SELECT count(*) FROM logs WHERE message = ANY(?)");
        p.setArray(1, c.createArrayOf("text", new String[] {"GET /x 500", "started"}));
        same(rows(p.executeQuery()), List.of("2"));
        p = c.prepareStatement("SELECT count(*) FROM logs WHERE _offset = ANY(?) AND date >= ?");
        p.setArray(1, c.createArrayOf("int8", new Long[] {0L, 1L}));
        p.setDate(2, java.sql.Date.valueOf("2026-01-01"));
        same(rows(p.executeQuery()), List.of("5"));
        ResultSet r = c.createStatement().executeQuery("SELECT 12.50::numeric(10, 2), [1, 2], true, DATE '2026-01-02'");
        r.next();
        same(r.getBigDecimal(1), new BigDecimal("12.50"));
        same(Arrays.toString((Object[]) r.getArray(2).getArray()), "[1, 2]");
        same(r.getBoolean(3), true);
        same(r.getDate(4).toString(), "2026-01-02");
        CallableStatement call = c.prepareCall("{call upper(?)}");
        call.setString(1, "abc");
        same(rows(call.executeQuery()), List.of("ABC"));
        same(rows(c.createStatement().executeQuery("SELECT {fn ucase('a')}, {fn concat('a', 'b')}, {d '2026-01-02'}, {ts '2026-01-02 03:04:05'}, {fn ifnull(NULL, 1)}")),
            List.of("A|ab|2026-01-02|2026-01-02 03:04:05|1"));
        c.setAutoCommit(false);
        Statement parts = c.createStatement();
        parts.setFetchSize(100);
        int n = 0;
        for (ResultSet all = parts.executeQuery("SELECT * FROM generate_series(1, 1000)"); all.next();) n++;
        same(n, 1000);
        c.commit();
        c.setAutoCommit(true);
        if (!simple) { // There the protocol has no word for it.
            Statement few = c.createStatement();
            few.setMaxRows(3);
            same(rows(few.executeQuery("SELECT * FROM generate_series(1, 1000)")).size(), 3);
        }
        Statement two = c.createStatement();
        same(two.execute("SELECT 1; SELECT 2"), true);
        same(two.getMoreResults(), true);
        same(state(c, "SELECT nosuch FROM logs"), "42703");
        same(state(c, "SELECT * FROM nosuch"), "42P01");
        same(state(c, "INSERT INTO logs VALUES (1)"), "25006");
        c.setReadOnly(true);
        c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        same(c.isValid(5), true);
        same(c.getSchema(), "public");
        Statement slow = c.createStatement();
        slow.setQueryTimeout(1);
        try {
            slow.executeQuery("SELECT count(*) FROM generate_series(1, 1000000000000)");
            throw new AssertionError("no timeout");
        } catch (SQLException e) {
            same(e.getSQLState(), "57014");
        }
    }

    static void metadata(Connection c) throws SQLException {
        DatabaseMetaData d = c.getMetaData();
        same(d.getDatabaseProductName(), "PostgreSQL");
        same(rows(d.getCatalogs()), List.of("highwater"));
        same(rows(d.getSchemas(), 1).contains("public"), true);
        same(rows(d.getTables(null, "public", "%", new String[] {"TABLE"}), 3),
            List.of("alerts", "dead_letter", "logs", "metric_metadata", "metrics", "requests_1m", "spans"));
        same(rows(d.getTables(null, null, "%", null)).isEmpty(), false);
        List<String> columns = rows(d.getColumns(null, "public", "requests_1m", "%"), 4, 6, 18);
        same(columns.subList(0, 4), List.of("service|text|YES", "requests|int8|YES", "errors|int8|YES", "window_start|timestamptz|YES"));
        same(rows(d.getColumns(null, "public", "logs", "attributes"), 6), List.of("jsonb"));
        same(rows(d.getPrimaryKeys(null, "public", "logs")), List.of());
        same(rows(d.getImportedKeys(null, "public", "logs")), List.of());
        same(rows(d.getExportedKeys(null, "public", "logs")), List.of());
        same(rows(d.getIndexInfo(null, "public", "logs", false, false)), List.of());
        same(rows(d.getTypeInfo(), 1).contains("int8"), true);
        same(rows(d.getTableTypes()).contains("VIEW"), true);
        rows(d.getFunctions(null, null, "%"));
        same(rows(d.getFunctionColumns(null, null, "abs", "%")).isEmpty(), false);
        rows(d.getProcedures(null, null, "%"));
        rows(d.getProcedureColumns(null, null, "abs", "%"));
        same(rows(d.getUDTs(null, null, "%", null)), List.of());
        same(rows(d.getTables(null, "public", "%", new String[] {"VIEW"}), 3), List.of("alert_history", "slo_status", "telemetry_summary"));
        same(rows(d.getColumns(null, "public", "telemetry_summary", "p95_ms"), 6), List.of("float8"));
        rows(d.getColumnPrivileges(null, "public", "logs", "%"));
        rows(d.getVersionColumns(null, "public", "logs"));
        same(rows(d.getCrossReference(null, "public", "logs", null, "public", "metrics")), List.of());
        rows(d.getClientInfoProperties());
        d.getSQLKeywords();
        rows(d.getTablePrivileges(null, "public", "logs"));
        rows(d.getBestRowIdentifier(null, "public", "logs", 0, true));
        ResultSetMetaData m = c.createStatement().executeQuery("SELECT timestamp, attributes, count(*) FROM logs GROUP BY 1, 2").getMetaData();
        same(m.getColumnTypeName(1) + " " + m.getColumnTypeName(2) + " " + m.getColumnName(3), "timestamptz jsonb count");
        ParameterMetaData q = c.prepareStatement("SELECT 1 FROM logs WHERE timestamp > ? AND _offset = ? AND message LIKE ?").getParameterMetaData();
        same(q.getParameterTypeName(1) + " " + q.getParameterTypeName(2) + " " + q.getParameterTypeName(3), "timestamptz int8 text");
    }

    public static void main(String[] args) throws Exception {
        for (String mode : List.of("", "&preferQueryMode=simple")) {
            try (Connection c = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + args[0] + "/highwater?user=reader" + mode)) {
                if (mode.isEmpty()) metadata(c);
                queries(c, mode.contains("simple"));
            }
        }
        System.out.println("done");
    }
}
