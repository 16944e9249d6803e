{{- /* The template of the pods, the same for a StatefulSet and a Deployment. */ -}}

{{- /* The files with secrets: option, folder below /etc/oneshotd, and the file in it (hooks: the folder itself). */ -}}
{{- define "oneshotd.secretFiles" -}}
{{- range $option, $name := dict "web-config" "webConfig" "access" "access" "hooks" "hooks" "pings" "pings" "receivers" "receivers" }}
{{- with index $.Values $name }}
{{- if .secretName }}
- option: {{ $option }}
  folder: {{ $option | trimSuffix "-config" }}
  secret: {{ .secretName | quote }}
  path: {{ printf "/etc/oneshotd/%s/%s" ($option | trimSuffix "-config") (.key | default "") | trimSuffix "/" | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "oneshotd.options" -}}
{{- /* oneshotd.toml. JSON's texts are valid in TOML, its numbers may have an exponent. */ -}}
http = [{{ .Values.server.port | toString | quote }}]
udp = [{{ if .Values.server.udp }}{{ .Values.server.port | toString | quote }}{{ end }}]
{{- if eq .Values.store.kind "postgresql" }}
lease-margin = {{ .Values.store.leaseMargin | toJson }}
{{- end }}
{{- range include "oneshotd.secretFiles" . | fromYamlArray }}
{{ .option }} = {{ .path | toJson }}
{{- end }}
{{- range $name, $value := .Values.server.options }}
{{ $name }} = {{ if kindIs "float64" $value }}{{ $value | int64 }}{{ else }}{{ $value | toJson }}{{ end }}
{{- end }}
{{- end -}}

{{- define "oneshotd.httpGet" -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ include "oneshotd.scheme" .root | upper }}
{{- end -}}

{{- /* How a probe asks: by HTTP, or by a command that has a client certificate. The command is a process of its own, which
needs 0.2 s of a processor. As the kubelet does, it takes any certificate of the server. */ -}}
{{- define "oneshotd.ask" -}}
{{- if .root.Values.webConfig.clientCertificates -}}
exec:
  command:
    - oneshotctl
    - health
    {{- if eq .path "/healthz" }}
    - --live
    {{- end }}
    - --url=https://localhost:{{ .root.Values.server.port }}
    - --any-certificate
    - --cert=/etc/oneshotd/probe/tls.crt
    - --key=/etc/oneshotd/probe/tls.key
{{- else -}}
{{ include "oneshotd.httpGet" . }}
{{- end -}}
{{- end -}}

{{- define "oneshotd.probe" -}}
{{- $base := include "oneshotd.ask" . | fromYaml -}}
{{- toYaml (merge (.values | default dict | deepCopy) .timing $base) -}}
{{- end -}}

{{- define "oneshotd.podTemplate" -}}
{{- $shared := eq .Values.store.kind "postgresql" -}}
{{- $byCommand := .Values.webConfig.clientCertificates -}}
metadata:
  labels:
    {{- include "oneshotd.with" (list (include "oneshotd.labels" .) .Values.podLabels) | nindent 4 }}
  annotations:
    # A change of options needs a restart.
    checksum/options: {{ include "oneshotd.options" . | sha256sum }}
    {{- if eq .Values.scrape.by "annotations" }}
    {{- include "oneshotd.scrapeAnnotations" . | nindent 4 }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.serviceAccountName }}
  serviceAccountName: {{ . | quote }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  terminationGracePeriodSeconds: {{ add (int .Values.terminationGracePeriodSeconds) (include "oneshotd.preStop" . | int) }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if $shared }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "oneshotd.selector" . | nindent 10 }}
  {{- end }}
  containers:
    - name: oneshotd
      image: {{ include "oneshotd.image" . | quote }}
      imagePullPolicy: {{ .Values.server.pullPolicy }}
      # The image's entry point is the daemon; these follow it.
      args:
        - --config=/etc/oneshotd/options/oneshotd.toml
        {{- if $shared }}
        - --store=$(ONESHOTD_STORE)
        - --daemon-name=$(POD_NAME)
        {{- end }}
      env:
        - name: LOG_LEVEL
          value: {{ .Values.server.logLevel | lower | quote }}
        - name: USE_EXPLICIT_TIMESTAMPS
          value: {{ .Values.server.useExplicitTimestamps | quote }}
        # For oneshot-emit in `kubectl exec`.
        - name: ONESHOTD_URL
          value: {{ include "oneshotd.scheme" . }}://localhost:{{ .Values.server.port }}
        {{- if $shared }}
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: ONESHOTD_STORE
          valueFrom:
            secretKeyRef:
              name: {{ .Values.store.secretName | quote }}
              key: {{ .Values.store.addressKey | quote }}
        {{- with .Values.store.passwordKey }}
        # libpq refuses a passfile that its group can read, which the files of a Secret are.
        - name: PGPASSWORD
          valueFrom:
            secretKeyRef:
              name: {{ $.Values.store.secretName | quote }}
              key: {{ . | quote }}
        {{- end }}
        {{- end }}
        {{- with .Values.server.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.server.port }}
          protocol: TCP
        {{- /* Not the UDP port of the same number, which needs no entry: a patch by helm 3 knows the entries of this list by
        their numbers alone, and would lose one of the two. */}}
      startupProbe:
        {{- $timing := dict "periodSeconds" ($byCommand | ternary 5 1) "timeoutSeconds" 5 "failureThreshold" ($byCommand | ternary 24 120) }}
        {{- include "oneshotd.probe" (dict "root" . "path" "/healthz" "timing" $timing "values" .Values.probes.startup) | nindent 8 }}
      livenessProbe:
        {{- $timing = dict "periodSeconds" ($byCommand | ternary 30 10) "timeoutSeconds" 10 "failureThreshold" 6 }}
        {{- include "oneshotd.probe" (dict "root" . "path" "/healthz" "timing" $timing "values" .Values.probes.liveness) | nindent 8 }}
      readinessProbe:
        {{- $timing = dict "periodSeconds" ($byCommand | ternary 10 5) "timeoutSeconds" 5 "failureThreshold" 2 }}
        {{- include "oneshotd.probe" (dict "root" . "path" "/readyz" "timing" $timing "values" .Values.probes.readiness) | nindent 8 }}
      {{- with include "oneshotd.preStop" . | int }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ . }}
      {{- end }}
      {{- with .Values.server.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        - name: options
          mountPath: /etc/oneshotd/options
          readOnly: true
        {{- range include "oneshotd.secretMounts" . | fromYamlArray }}
        {{- /* A whole folder: a file that is mounted by subPath is never changed. */}}
        - name: {{ .name }}
          mountPath: /etc/oneshotd/{{ .name }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: options
      configMap:
        name: {{ include "oneshotd.fullname" . | quote }}
    {{- range include "oneshotd.secretMounts" . | fromYamlArray }}
    - name: {{ .name }}
      secret:
        secretName: {{ .secret | quote }}
        {{- /* Readable by the group of fsGroup. The daemon refuses secrets that others may read. */}}
        defaultMode: 0440
    {{- end }}
    {{- if or $shared (not .Values.persistence.enabled) }}
    - name: data
      emptyDir: {}
    {{- else if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim | quote }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* Secrets that are mounted: folder below /etc/oneshotd, which is the volume's name as well, and Secret. */ -}}
{{- define "oneshotd.secretMounts" -}}
{{- range include "oneshotd.secretFiles" . | fromYamlArray }}
- name: {{ .folder }}
  secret: {{ .secret | quote }}
{{- end }}
{{- with .Values.webConfig.tlsSecretName }}
- name: tls
  secret: {{ . | quote }}
{{- end }}
{{- if .Values.webConfig.clientCertificates }}
- name: probe
  secret: {{ .Values.webConfig.probeSecretName | quote }}
{{- end }}
{{- if eq .Values.store.kind "postgresql" }}
- name: postgresql
  secret: {{ .Values.store.secretName | quote }}
{{- end }}
{{- end -}}

{{- /* Seconds that a pod of several serves after it was taken out of the Service. */ -}}
{{- define "oneshotd.preStop" -}}
{{- if and (eq .Values.store.kind "postgresql") (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{ int .Values.preStopSeconds }}
{{- else -}}
0
{{- end -}}
{{- end -}}
