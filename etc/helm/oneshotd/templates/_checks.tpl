{{- /* Refuse values that each are valid and do not fit together. values.schema.json refuses the first ones, too, unless
its use is turned off. */ -}}
{{- define "oneshotd.check" -}}
{{- $v := .Values -}}
{{- if and (eq $v.store.kind "sqlite") (gt (int $v.replicaCount) 1) -}}
{{- fail (printf "replicaCount: %d replicas cannot share a file of SQLite: take 1, or store.kind postgresql (docs/high-availability.md)" (int $v.replicaCount)) -}}
{{- end -}}
{{- if and (eq $v.store.kind "postgresql") (not $v.store.secretName) -}}
{{- fail "store.secretName: postgresql needs the name of a Secret with the address of the database" -}}
{{- end -}}
{{- if and $v.webConfig.tls (not $v.webConfig.secretName) -}}
{{- fail "webConfig.tls: TLS needs webConfig.secretName, a Secret with the web configuration" -}}
{{- end -}}
{{- if and $v.webConfig.clientCertificates (not $v.webConfig.tls) -}}
{{- fail "webConfig.clientCertificates: client certificates need webConfig.tls" -}}
{{- end -}}
{{- if and $v.webConfig.clientCertificates (not $v.webConfig.probeSecretName) -}}
{{- fail "webConfig.clientCertificates: the probes need webConfig.probeSecretName, a Secret with tls.crt and tls.key" -}}
{{- end -}}
{{- range $name, $annotations := dict "podAnnotations" $v.podAnnotations "service.annotations" $v.service.annotations -}}
{{- range $key, $_ := $annotations -}}
{{- if hasPrefix "prometheus.io/" $key -}}
{{- fail (printf "%s: %s would be a second way to scrape, and each event be in one of the jobs by chance: take scrape.by annotations instead" $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- fail "ingress.host: an Ingress without a host would take the requests of every name" -}}
{{- end -}}
{{- end -}}
