{{/*
The environment of a process, as far as Kafka, PostgreSQL and the release decide it. One helper for all containers, so that none is forgotten.
dict "root" . "values" {…} "needs" (list "kafka" "postgres"): a container gets the Secrets that it needs and no others.
*/}}
{{- define "perdure.env" -}}
{{- $root := .root -}}
- name: PERDURE_NAMESPACE
  value: {{ include "perdure.namespace" $root | quote }}
- name: PERDURE_LOG_FORMAT
  value: {{ $root.Values.logFormat | quote }}
- name: PYTHONUNBUFFERED
  value: "1"
- name: TMPDIR
  value: /tmp
{{- if has "kafka" .needs }}
{{- $security := include "perdure.kafkaSecurity" . | fromYaml }}
- name: PERDURE_KAFKA
  value: {{ include "perdure.bootstrap" $root | quote }}
{{- if ne $security.protocol "PLAINTEXT" }}
- name: PERDURE_KAFKA_SECURITY_PROTOCOL
  value: {{ $security.protocol | quote }}
{{- end }}
{{- with $security.mechanism }}
- name: PERDURE_KAFKA_SASL_MECHANISMS
  value: {{ . | quote }}
{{- end }}
{{- if $security.saslSecret }}
- name: PERDURE_KAFKA_SASL_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ $security.saslSecret | quote }}
      key: {{ $security.usernameKey | quote }}
- name: PERDURE_KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $security.saslSecret | quote }}
      key: {{ $security.passwordKey | quote }}
{{- end }}
{{- if $security.tlsSecret }}
{{- with $security.caKey }}
- name: PERDURE_KAFKA_SSL_CA_LOCATION
  value: {{ printf "%s/%s" $security.caPath . | quote }}
{{- end }}
{{- with $security.certificateKey }}
- name: PERDURE_KAFKA_SSL_CERTIFICATE_LOCATION
  value: {{ printf "/etc/perdure/kafka/%s" . | quote }}
- name: PERDURE_KAFKA_SSL_KEY_LOCATION
  value: {{ printf "/etc/perdure/kafka/%s" $security.privateKeyKey | quote }}
{{- end }}
{{- end }}
{{- with $root.Values.schemaRegistry.url }}
- name: PERDURE_KAFKA_SCHEMA_REGISTRY_URL
  value: {{ . | quote }}
{{- end }}
{{- with $root.Values.schemaRegistry.existingSecret }}
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
{{- range $name, $value := $root.Values.kafka.settings }}
{{- if not (kindIs "invalid" $value) }}
- name: PERDURE_KAFKA_{{ $name | upper | replace "." "_" }}
  value: {{ include "perdure.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (has "postgres" .needs) (include "perdure.hasPostgres" $root) }}
- name: PERDURE_POSTGRES
  valueFrom:
    secretKeyRef:
      name: {{ include "perdure.postgresSecret" $root | quote }}
      key: {{ ternary $root.Values.postgres.key "uri" (eq $root.Values.postgres.mode "external") | quote }}
{{- end }}
{{- end -}}

{{/* As "perdure.env". "optional": the Secrets may not be there yet. */}}
{{- define "perdure.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if has "kafka" .needs }}
{{- $security := include "perdure.kafkaSecurity" . | fromYaml }}
{{- with $security.tlsSecret }}
- name: kafka-tls
  secret:
    secretName: {{ . | quote }}
    {{- if $.optional }}
    optional: true
    {{- end }}
{{- end }}
{{- if and $security.caSecret (ne $security.caSecret $security.tlsSecret) }}
- name: kafka-ca
  secret:
    secretName: {{ $security.caSecret | quote }}
    {{- if $.optional }}
    optional: true
    {{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "perdure.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if has "kafka" .needs }}
{{- $security := include "perdure.kafkaSecurity" . | fromYaml }}
{{- if $security.tlsSecret }}
- name: kafka-tls
  mountPath: /etc/perdure/kafka
  readOnly: true
{{- end }}
{{- if and $security.caSecret (ne $security.caSecret $security.tlsSecret) }}
- name: kafka-ca
  mountPath: {{ $security.caPath }}
  readOnly: true
{{- end }}
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A list of environment variables, YAML: of two with one name the later one, since Kubernetes takes no duplicates. Numbers become text. */}}
{{- define "perdure.uniqueEnv" -}}
{{- $names := list -}}
{{- $byName := dict -}}
{{- range . -}}
{{- $one := deepCopy . -}}
{{- if hasKey $one "value" -}}
{{- $_ := set $one "value" (include "perdure.scalar" $one.value) -}}
{{- end -}}
{{- $names = append $names $one.name -}}
{{- $_ := set $byName $one.name $one -}}
{{- end -}}
{{- $found := list -}}
{{- range uniq $names -}}
{{- $found = append $found (get $byName .) -}}
{{- end -}}
{{- toYaml $found -}}
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
