{{- define "netpol.labels" -}}
app.kubernetes.io/name: netpol
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "netpol.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
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
