// The definitions of ServiceMonitor and PrometheusRule for the tests, fetched by ../build. Nothing of it is part of netpol.
module netpol.example/prometheus-operator

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
