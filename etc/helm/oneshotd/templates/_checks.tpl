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
{{- include "oneshotd.checkPorts" . -}}
{{- end -}}

{{- /* Refuse an upgrade that would lose a port of the Service without a word. helm 3 and `kubectl apply` know a port by
its number alone when they make a patch, and TCP and UDP have the same one. Without a cluster nothing is compared. */ -}}
{{- define "oneshotd.checkPorts" -}}
{{- $name := include "oneshotd.fullname" . -}}
{{- $there := list -}}
{{- range (lookup "v1" "Service" .Release.Namespace $name | default dict | dig "spec" "ports" list) -}}
{{- $node := empty $.Values.service.nodePort | ternary 0 (.nodePort | default 0 | int) -}}
{{- $there = append $there (printf "%s %d %v %d" (.protocol | default "TCP") (int .port) .targetPort $node) -}}
{{- end -}}
{{- $port := int .Values.service.port -}}
{{- $node := .Values.service.nodePort | default 0 | int -}}
{{- $wanted := list (printf "TCP %d http %d" $port $node) -}}
{{- if .Values.server.udp -}}
{{- $wanted = append $wanted (printf "UDP %d %d %d" $port (int .Values.server.port) $node) -}}
{{- end -}}
{{- if and $there (ne (join "," (sortAlpha $there)) (join "," $wanted)) (or (gt (len $there) 1) (gt (len $wanted) 1)) -}}
{{- fail (printf "service.port, service.nodePort, server.port, server.udp: helm cannot change the ports of a Service that has TCP and UDP under one number, and would lose one: run `kubectl --namespace %s delete service %s`, and then this upgrade, which makes it anew" .Release.Namespace $name) -}}
{{- end -}}
{{- end -}}
