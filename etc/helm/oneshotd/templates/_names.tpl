{{- /* Names, labels and addresses. Every definition takes the root context. */ -}}

{{- /* The name of all objects: a label of DNS that begins with a letter, as a Service needs it, and of at most 52
characters, as a StatefulSet needs it: the labels of its pods add 11. */ -}}
{{- define "oneshotd.fullname" -}}
{{- if .Values.serviceName -}}
{{- .Values.serviceName -}}
{{- else -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- $name := include "oneshotd.name" . | lower | replace "." "-" | replace "_" "-" -}}
{{- if not (contains $name $release) }}{{ $release = printf "%s-%s" $release $name }}{{ end -}}
{{- if not (regexMatch "^[a-z]" $release) }}{{ $release = printf "oneshotd-%s" $release }}{{ end -}}
{{- $release | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* "oneshotd", or the alias by which another chart depends on this one: two in one release have names and pods of
their own. */ -}}
{{- define "oneshotd.name" -}}
{{- .Chart.Name | trunc 63 -}}
{{- end -}}

{{- define "oneshotd.selector" -}}
app.kubernetes.io/name: {{ include "oneshotd.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: daemon
{{- end -}}

{{- /* Labels of objects that are no pods of the daemon. */ -}}
{{- define "oneshotd.commonLabels" -}}
app.kubernetes.io/name: {{ include "oneshotd.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- with .Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "oneshotd.labels" -}}
{{ include "oneshotd.commonLabels" . }}
app.kubernetes.io/component: daemon
{{- end -}}

{{- /* Labels with further ones, which win: a list of both. A key would stand twice otherwise. */ -}}
{{- define "oneshotd.with" -}}
{{- mergeOverwrite (first . | fromYaml) (last . | default dict | deepCopy) | toYaml -}}
{{- end -}}

{{- define "oneshotd.image" -}}
{{- with .Values.server -}}
{{- if .digest -}}
{{ .image }}@{{ .digest }}
{{- else -}}
{{ .image }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The name of the Service in the cluster, without the cluster's own domain, which may differ. */ -}}
{{- define "oneshotd.host" -}}
{{ include "oneshotd.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "oneshotd.address" -}}
{{ include "oneshotd.host" . }}:{{ .Values.service.port }}
{{- end -}}

{{- define "oneshotd.scheme" -}}
{{ .Values.webConfig.tls | ternary "https" "http" }}
{{- end -}}

