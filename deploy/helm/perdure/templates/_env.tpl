{{/*
What every process has to know of Kafka and PostgreSQL: one helper for all pods, jobs, hooks and tests, so that none is forgotten.
*/}}
{{- define "perdure.env" -}}
- name: PERDURE_NAMESPACE
  value: {{ include "perdure.namespace" . | quote }}
- name: PERDURE_KAFKA
  value: {{ include "perdure.bootstrap" . | quote }}
- name: PERDURE_LOG_FORMAT
  value: {{ .Values.logFormat | quote }}
- name: PYTHONUNBUFFERED
  value: "1"
- name: TMPDIR
  value: /tmp
{{- $security := .Values.kafka.security }}
{{- if eq .Values.kafka.mode "external" }}
{{- if ne $security.protocol "PLAINTEXT" }}
- name: PERDURE_KAFKA_SECURITY_PROTOCOL
  value: {{ $security.protocol | quote }}
{{- end }}
{{- if hasPrefix "SASL" $security.protocol }}
- name: PERDURE_KAFKA_SASL_MECHANISMS
  value: {{ $security.sasl.mechanism | quote }}
{{- with $security.sasl.existingSecret }}
- name: PERDURE_KAFKA_SASL_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: {{ $security.sasl.usernameKey | quote }}
- name: PERDURE_KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: {{ $security.sasl.passwordKey | quote }}
{{- end }}
{{- end }}
{{- if $security.tls.existingSecret }}
{{- with $security.tls.caKey }}
- name: PERDURE_KAFKA_SSL_CA_LOCATION
  value: /etc/perdure/kafka/{{ . }}
{{- end }}
{{- with $security.tls.certificateKey }}
- name: PERDURE_KAFKA_SSL_CERTIFICATE_LOCATION
  value: /etc/perdure/kafka/{{ . }}
- name: PERDURE_KAFKA_SSL_KEY_LOCATION
  value: /etc/perdure/kafka/{{ $security.tls.privateKeyKey }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (eq .Values.kafka.mode "strimzi") .Values.kafka.strimzi.createUser }}
- name: PERDURE_KAFKA_SECURITY_PROTOCOL
  value: SSL
- name: PERDURE_KAFKA_SSL_CA_LOCATION
  value: /etc/perdure/kafka-ca/ca.crt
- name: PERDURE_KAFKA_SSL_CERTIFICATE_LOCATION
  value: /etc/perdure/kafka/user.crt
- name: PERDURE_KAFKA_SSL_KEY_LOCATION
  value: /etc/perdure/kafka/user.key
{{- end }}
{{- with .Values.schemaRegistry.url }}
- name: PERDURE_KAFKA_SCHEMA_REGISTRY_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.schemaRegistry.existingSecret }}
- name: PERDURE_KAFKA_SCHEMA_REGISTRY_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: username
- name: PERDURE_KAFKA_SCHEMA_REGISTRY_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: password
{{- end }}
{{- range $name, $value := .Values.kafka.settings }}
- name: PERDURE_KAFKA_{{ $name | upper | replace "." "_" }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- if include "perdure.hasPostgres" . }}
- name: PERDURE_POSTGRES
  valueFrom:
    secretKeyRef:
      name: {{ include "perdure.postgresSecret" . | quote }}
      key: {{ ternary .Values.postgres.key "uri" (eq .Values.postgres.mode "external") | quote }}
{{- end }}
{{- end -}}

{{- define "perdure.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if and (eq .Values.kafka.mode "external") .Values.kafka.security.tls.existingSecret }}
- name: kafka-tls
  secret:
    secretName: {{ .Values.kafka.security.tls.existingSecret | quote }}
{{- end }}
{{- if and (eq .Values.kafka.mode "strimzi") .Values.kafka.strimzi.createUser }}
- name: kafka-tls
  secret:
    secretName: {{ include "perdure.fullname" . }}
- name: kafka-ca
  secret:
    secretName: {{ .Values.kafka.strimzi.cluster }}-cluster-ca-cert
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "perdure.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if or (and (eq .Values.kafka.mode "external") .Values.kafka.security.tls.existingSecret) (and (eq .Values.kafka.mode "strimzi") .Values.kafka.strimzi.createUser) }}
- name: kafka-tls
  mountPath: /etc/perdure/kafka
  readOnly: true
{{- end }}
{{- if and (eq .Values.kafka.mode "strimzi") .Values.kafka.strimzi.createUser }}
- name: kafka-ca
  mountPath: /etc/perdure/kafka-ca
  readOnly: true
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "perdure.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "perdure.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
