module highwater.test/victoria-metrics

go 1.26

require github.com/VictoriaMetrics/VictoriaMetrics v1.151.0
