{{- define "netpol.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- /* Without the name of the release: a cluster has one installation, and its objects have the names that the manual uses. */ -}}
{{- define "netpol.fullname" -}}
{{ .Values.fullnameOverride | default (include "netpol.name" .) }}
{{- end }}

{{- /* What selects the pods of a component: (list "agent" .) */ -}}
{{- define "netpol.selector" -}}
{{- $root := index . 1 -}}
{app.kubernetes.io/name: {{ include "netpol.name" $root | quote }}, app.kubernetes.io/instance: {{ $root.Release.Name | quote }}, app.kubernetes.io/component: {{ index . 0 }}}
{{- end }}

{{- define "netpol.labels" -}}
app.kubernetes.io/name: {{ include "netpol.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* Labels of the pods of a component, with those of the user, which replace none of the chart: (list "agent" .) */ -}}
{{- define "netpol.podLabels" -}}
{{- $root := index . 1 -}}
{{- $component := index . 0 -}}
{{- $own := include "netpol.labels" $root | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/component" $component -}}
{{- mustMerge $own (index $root.Values $component).podLabels | toYaml }}
{{- end }}

{{- define "netpol.image" -}}
{{- $image := .Values.image -}}
{{- if not $image.digest -}}
{{ printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) | quote }}
{{- else if $image.tag -}}
{{ printf "%s:%s@%s" $image.repository $image.tag $image.digest | quote }}
{{- else -}}
{{ printf "%s@%s" $image.repository $image.digest | quote }}
{{- end -}}
{{- end }}

{{- /* What every container is denied. */ -}}
{{- define "netpol.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "netpol.cniEnv" -}}
- {name: NETPOL_CNI_CONF_DIR, value: /host/etc/cni/net.d}
- {name: NETPOL_CNI_BIN_DIR, value: /host/opt/cni/bin}
{{- end }}

{{- /* Where container runtimes keep CNI configurations and plugins. The schema has the same names. */ -}}
{{- define "netpol.cniDirs" -}}
{{- $k3s := "/var/lib/rancher/k3s" -}}
{{- $microk8s := "/var/snap/microk8s/current" -}}
{{- $standard := dict "conf" "/etc/cni/net.d" "bin" "/opt/cni/bin" -}}
{{- $presets := dict
  "standard" $standard
  "rke2" $standard
  "eks" $standard
  "k3s" (dict "conf" (print $k3s "/agent/etc/cni/net.d") "bin" (print $k3s "/data/cni"))
  "k3d" (dict "conf" (print $k3s "/agent/etc/cni/net.d") "bin" "/bin")
  "microk8s" (dict "conf" (print $microk8s "/args/cni-network") "bin" (print $microk8s "/opt/cni/bin"))
  "gke" (dict "conf" "/etc/cni/net.d" "bin" "/home/kubernetes/bin")
  "openshift" (dict "conf" "/etc/kubernetes/cni/net.d" "bin" "/var/lib/cni/bin")
-}}
{{- $preset := index $presets .Values.cni.preset -}}
conf: {{ .Values.cni.confDir | default $preset.conf | quote }}
bin: {{ .Values.cni.binDir | default $preset.bin | quote }}
{{- end }}

{{- /* Who can read the metrics: node, token or all. */ -}}
{{- define "netpol.access" -}}
{{- $isScraped := .Values.monitoring.serviceMonitor -}}
{{- $access := .Values.metrics.access | default (ternary "token" "node" $isScraped) -}}
{{- if and $isScraped (eq $access "node") -}}
{{- fail "monitoring.serviceMonitor requires metrics.access token or all, because with node Prometheus cannot reach the agents" -}}
{{- end -}}
{{- $access -}}
{{- end }}

{{- define "netpol.tokenSecret" -}}
{{ .Values.metrics.tokenSecret | default (print (include "netpol.fullname" .) "-metrics") }}
{{- end }}

{{- /* The alerts of alerts.yaml with their values: a list of rules of Prometheus. */ -}}
{{- define "netpol.alerts" -}}
{{- $name := include "netpol.fullname" . -}}
{{- $page := .Values.monitoring.runbookUrl | default (print (trimSuffix "/" .Chart.Home) "/how-to/runbooks.html") -}}
{{- $rules := list -}}
{{- range $alert := (.Files.Get "alerts.yaml" | fromYaml).alerts -}}
{{- $value := index $.Values.monitoring.alerts $alert.alert -}}
{{- if $value.enabled -}}
{{- $expr := $alert.expr | replace "$job" $name | replace "$namespace" $.Release.Namespace | replace "$threshold" (toString $value.threshold) -}}
{{- $annotations := merge (dict "runbook_url" (print $page "#" (lower $alert.alert))) $alert.annotations -}}
{{- $labels := dict "severity" $value.severity -}}
{{- $rules = append $rules (dict "alert" $alert.alert "expr" $expr "for" $value.for "labels" $labels "annotations" $annotations) -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules }}
{{- end }}
