{{- /* What ServiceMonitor, PodMonitor and annotations have in common. */ -}}

{{- /* The parameters of a scrape of /metrics. */ -}}
{{- define "oneshotd.scrapeParams" -}}
{{- $params := .Values.scrape.params | default dict | deepCopy -}}
{{- if not .Values.scrape.events -}}
{{- $_ := set $params "events" (list "0") -}}
{{- else if .Values.scrape.scraper -}}
{{- $_ := set $params "scraper" (list .Values.scrape.scraper) -}}
{{- end -}}
{{- with $params }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- define "oneshotd.scrapeEndpoint" -}}
port: http
scheme: {{ include "oneshotd.scheme" . }}
interval: {{ .Values.scrape.interval }}
scrapeTimeout: {{ .Values.scrape.scrapeTimeout }}
{{- end -}}

{{- /* The endpoints. The alert rules and the dashboard know the jobs "oneshotd" and "oneshotd-daemons".

The figures of a file or a database are those of the same thing after a pod was replaced, so `instance` is the
Service. Replicas that share a database are one target for the events, the Service: all pods become the same target,
which Prometheus scrapes once. Each pod has its own figures at /metrics/daemon. */ -}}
{{- define "oneshotd.scrapeEndpoints" -}}
{{- $shared := eq .Values.store.kind "postgresql" -}}
{{- $base := include "oneshotd.scrapeEndpoint" . | fromYaml -}}
{{- $instance := include "oneshotd.address" . -}}
{{- $events := dict "path" "/metrics" -}}
{{- with include "oneshotd.scrapeParams" . | fromYaml }}{{ $_ := set $events "params" . }}{{ end -}}
{{- $relabelings := list (dict "targetLabel" "job" "replacement" "oneshotd") (dict "targetLabel" "instance" "replacement" $instance) -}}
{{- if $shared -}}
{{- $relabelings = concat $relabelings (list (dict "targetLabel" "__address__" "replacement" $instance) (dict "action" "labeldrop" "regex" "pod|container|node")) -}}
{{- end -}}
{{- $more := .Values.scrape.endpoint | default dict | dig "relabelings" list -}}
{{- $_ := set $events "relabelings" (concat $relabelings $more) -}}
{{- $given := omit (.Values.scrape.endpoint | default dict) "relabelings" -}}
{{- $endpoints := list (merge (deepCopy $given) $events $base) -}}
{{- if $shared -}}
{{- $relabelings = list (dict "targetLabel" "job" "replacement" "oneshotd-daemons") (dict "targetLabel" "instance" "sourceLabels" (list "__meta_kubernetes_pod_name")) -}}
{{- $daemons := dict "path" "/metrics/daemon" "relabelings" (concat $relabelings $more) -}}
{{- $endpoints = append $endpoints (merge (deepCopy $given) $daemons $base) -}}
{{- end -}}
{{- toYaml $endpoints -}}
{{- end -}}

{{- define "oneshotd.scrapeAnnotations" -}}
prometheus.io/scrape: "true"
prometheus.io/path: /metrics
prometheus.io/port: {{ .Values.server.port | quote }}
prometheus.io/scheme: {{ include "oneshotd.scheme" . }}
{{- /* One value each; nothing replaces $(POD_NAME) here. */ -}}
{{- range $name, $values := include "oneshotd.scrapeParams" . | fromYaml }}
{{- if not (contains "$(" (first $values)) }}
prometheus.io/param_{{ $name }}: {{ first $values | quote }}
{{- end }}
{{- end }}
{{- end -}}
