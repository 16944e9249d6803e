{{- /* A pod that sends one event and ends: of `helm test`, and of testEvent. Takes the root and the event's type. */ -}}
{{- define "oneshotd.emitter" -}}
{{- with .root -}}
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: Never
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: oneshot-emit
    image: {{ include "oneshotd.image" . | quote }}
    imagePullPolicy: {{ .Values.server.pullPolicy }}
    command:
      - oneshot-emit
      {{- if .Values.testEvent.secretName }}
      - --config=/etc/oneshotd/emit/emit.toml
      {{- else }}
      - --http={{ include "oneshotd.scheme" . }}://{{ include "oneshotd.address" . }}
      {{- end }}
      - --retry=20s
      - type={{ $.type }}
      - {{ printf "release=%s" .Release.Name | quote }}
    securityContext:
      {{- toYaml .Values.securityContext | nindent 6 }}
    resources:
      requests:
        cpu: 10m
        memory: 32Mi
      limits:
        memory: 128Mi
    {{- if .Values.testEvent.secretName }}
    volumeMounts:
      - name: emit
        mountPath: /etc/oneshotd/emit
        readOnly: true
    {{- end }}
{{- with .Values.testEvent.secretName }}
volumes:
  - name: emit
    secret:
      secretName: {{ . | quote }}
      defaultMode: 0440
{{- end }}
{{- end -}}
{{- end -}}
